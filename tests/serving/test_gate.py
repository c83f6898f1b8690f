"""Who is let in, from where, how often; and that a token is never told."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator

import httpx
import pytest

from storage.store import Store
from tests.asked_store import write_asked_store
from tests.serving.server import kind_of, served

TOKEN = "a-secret-of-thirty-letters-or-so"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_asked_store(tmp_path_factory.mktemp("gate") / "store")


@pytest.fixture(scope="module")
def guarded(store: Store) -> Iterator[httpx.Client]:
    with served(store, TOKEN) as client:
        yield client


PATHS = (
    "/api/songs",
    "/api/similar?like=TR000",
    "/api/status",
    "/api/funnel",
    "/api/songs/TR001/audio",
    "/api/openapi.json",
    "/api/stations",
    "/metrics",
    "/api/similar_tracks?item_id=TR000",
    "/api",
    "/api/none",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Cookie": f"simsong={TOKEN}"},
        {"Cookie": "simsong=\";;=,"},
        {"Authorization": b"Bearer " + b"\xff\xfe"},
    ],
)
def test_without_the_token_nothing_is_told(guarded: httpx.Client, path: str, headers: dict) -> None:
    response = guarded.get(path, headers=headers)
    assert response.status_code == 401 and kind_of(response) == "token"
    assert "www-authenticate" in response.headers


def test_with_it_everything_is(guarded: httpx.Client) -> None:
    for path in PATHS[:5]:
        status = guarded.get(path, headers={"Authorization": f"bearer {TOKEN}"}).status_code
        assert status == (404 if path.endswith("audio") else 200)
    for path in ("/", "/api/health", "/api/ready"):
        assert guarded.get(path).status_code == 200, "the door, and whether it lives"


def test_a_browser_gets_a_cookie_that_is_not_the_token(guarded: httpx.Client) -> None:
    assert kind_of(guarded.post("/api/session", json={"token": "wrong"})) == "token"
    entered = guarded.post("/api/session", json={"token": TOKEN})
    cookie = entered.headers["set-cookie"]
    assert entered.status_code == 204 and TOKEN not in cookie
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    guarded.cookies.clear()
    value = cookie.partition(";")[0]
    assert guarded.get("/api/songs", headers={"Cookie": value}).status_code == 200


def test_a_token_is_in_no_log_and_no_answer(
    store: Store, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("simsong.serve").setLevel(logging.DEBUG)
    output = ""
    with served(store, TOKEN) as api:
        salt = hashlib.md5((TOKEN + "pepper").encode()).hexdigest()
        for path in (
            f"/api/songs?token={TOKEN}",
            f"/rest/ping?u=a&p={TOKEN}",
            f"/rest/ping?u=a&t={salt}&s=pepper",
            f"/rest/ping?apiKey={TOKEN}",
            f"/api/{TOKEN}",
            f"/{TOKEN}",
            "/metrics",
            "/api/status",
        ):
            for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
                output += api.get(path, headers=headers).text
        output += api.post("/api/session", json={"token": TOKEN}).text
        output += api.post("/api/session", json={"token": TOKEN + "x", "more": TOKEN}).text
        output += api.post("/api/session", content=f'{{"token": "{TOKEN}'.encode()).text
    written = capfd.readouterr()
    logged = " ".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert "/api/session" in logged, "there are lines"
    for text in (output, logged, written.out, written.err):
        assert TOKEN not in text


def test_another_sites_name_for_this_machine_is_refused(store: Store) -> None:
    """DNS rebinding: the browser believes that it asks evil.example."""
    with served(store, hosts=("music.home",)) as api:
        port = api.base_url.port
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "[::1", "a:b"):
            assert api.get("/api/songs", headers={"Host": host}).status_code in (400, 403), host
        for host in (
            "localhost",
            f"127.0.0.1:{port}",
            "[::1]:80",
            "music.home",
            "MUSIC.home:80",
            "x.localhost",
        ):
            assert api.get("/api/songs", headers={"Host": host}).status_code == 200, host


def test_other_sites_pages_change_nothing_and_read_if_they_may(store: Store) -> None:
    with served(store, cors=("https://friend.example",)) as api:
        verdict, port = {"track_id": "TR000", "verdict": "more"}, api.base_url.port
        for origin in ("https://evil.example", "null", f"https://127.0.0.1:{port}.evil.example"):
            assert kind_of(api.put("/api/feedback", json=verdict, headers={"Origin": origin})) == "origin"
        for origin in ("https://friend.example", f"http://127.0.0.1:{port}"):
            assert api.put("/api/feedback", json=verdict, headers={"Origin": origin}).status_code == 204
        read = {
            origin: api.get("/api/songs", headers={"Origin": origin}).headers.get(
                "access-control-allow-origin"
            )
            for origin in ("https://friend.example", "https://evil.example")
        }
        assert read == {"https://friend.example": "https://friend.example", "https://evil.example": None}
        answer = api.options(
            "/api/feedback",
            headers={"Origin": "https://friend.example", "Access-Control-Request-Method": "PUT"},
        )
        assert answer.status_code == 200


def test_who_asks_too_often_waits(store: Store) -> None:
    with served(store, requests_per_minute=60) as api:
        statuses = [api.get("/api/songs").status_code for _ in range(20)]
        assert statuses[:15] == [200] * 15 and statuses[-1] == 429
        refused = api.get("/api/songs")
        assert kind_of(refused) == "too-many-requests"
        assert api.get("/api/health").status_code == 200
        time.sleep(int(refused.headers["retry-after"]) + 0.1)
        assert api.get("/api/songs").status_code == 200


def test_read_only_and_silent(store: Store) -> None:
    with served(store, read_only=True, audio=False, upload=False) as api:
        assert kind_of(api.put("/api/feedback", json={"track_id": "TR000", "verdict": "more"})) == "read-only"
        assert kind_of(api.post("/api/stations", json={"name": "x", "like": ["TR000"]})) == "read-only"
        assert kind_of(api.delete("/api/stations/x")) == "read-only"
        assert kind_of(api.get("/api/songs/TR001/audio")) == "no-audio"
        assert kind_of(api.get("/api/songs/TR001/windows/0/audio")) == "no-audio"
        assert kind_of(api.post("/api/similar/file", content=b"x")) == "no-upload"
        assert not any(one["has_audio"] for one in api.get("/api/songs").json()["items"])


def test_a_body_has_its_size(store: Store) -> None:
    with served(store) as api:
        large = b'{"track_id": "' + b"x" * (2 << 20) + b'", "verdict": "more"}'
        assert (
            kind_of(api.put("/api/feedback", content=large, headers={"Content-Type": "application/json"}))
            == "too-large"
        )
        assert kind_of(api.put("/api/feedback", content=iter([large[:10], large[10:]]))) == "too-large"


def test_the_page_may_run_its_own_scripts_alone(guarded: httpx.Client) -> None:
    for path in ("/", "/api/songs", "/none"):
        policy = guarded.get(path).headers["content-security-policy"]
        assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
        assert guarded.get(path).headers["x-content-type-options"] == "nosniff"


def test_others_are_let_in_with_a_token_alone(store: Store) -> None:
    import subprocess
    import sys

    for host in ("0.0.0.0", "::", "192.0.2.1"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "simsong.cli",
                "serve",
                "--store",
                store.backend.url,
                "--host",
                host,
                "--port",
                "0",
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1 and "SIMSONG_TOKEN" in done.stderr and len(done.stderr.splitlines()) == 1

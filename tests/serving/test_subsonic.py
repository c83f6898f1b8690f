"""OpenSubsonic's sonicSimilarity: its calls, and those with what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from xml.etree import ElementTree

import httpx
import pytest

from storage.store import Store
from tests.asked_store import write_asked_store
from tests.serving.server import served

TOKEN = "sesame"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_asked_store(tmp_path_factory.mktemp("subsonic") / "store")


@pytest.fixture(scope="module")
def api(store: Store) -> Iterator[httpx.Client]:
    with served(store, TOKEN) as client:
        yield client


def ask(api: httpx.Client, name: str, **params: str | int) -> dict:
    answer = api.get(
        f"/rest/{name}", params={"u": "me", "p": TOKEN, "v": "1.16.1", "c": "test", "f": "json", **params}
    )
    assert answer.status_code == 200
    return answer.json()["subsonic-response"]


def test_similar_songs_and_a_path(api: httpx.Client) -> None:
    assert {one["name"] for one in ask(api, "getOpenSubsonicExtensions")["openSubsonicExtensions"]} >= {
        "sonicSimilarity"
    }
    near = ask(api, "getSonicSimilarTracks.view", id="TR000", count=5)["sonicMatch"]
    plain = api.get(
        "/api/similar", params={"like": "TR000", "k": 5}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert [one["entry"]["id"] for one in near] == [one["track_id"] for one in plain.json()["items"]]
    assert all(0 <= one["similarity"] <= 1 for one in near) and near[0]["entry"]["title"]
    route = ask(api, "findSonicPath", startSongId="TR000", endSongId="TR005", count=6)["sonicMatch"]
    assert (route[0]["entry"]["id"], route[-1]["entry"]["id"]) == ("TR000", "TR005") and len(route) <= 6


def test_xml_is_the_default_and_holds_any_title(api: httpx.Client) -> None:
    given = {"u": "me", "p": "enc:" + TOKEN.encode().hex(), "id": "TR014"}
    for response in (api.get("/rest/getSong", params=given), api.post("/rest/getSong", data=given)):
        root = ElementTree.fromstring(response.text)
        assert root.get("status") == "ok"
        assert root[0].get("title") == "Tab here [31m"


@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("getSonicSimilarTracks", {}, 10),
        ("getSonicSimilarTracks", {"id": "none"}, 70),
        ("findSonicPath", {"startSongId": "TR000"}, 10),
        ("findSonicPath", {"startSongId": "TR000", "endSongId": "TR000"}, 0),
        ("deleteUser", {}, 70),
        ("ping", {"p": "wrong"}, 40),
        ("ping", {"p": "", "t": "0" * 32, "s": "x"}, 40),
        ("ping", {"p": "enc:zz"}, 40),
        ("getSonicSimilarTracks", {"id": "../../x"}, 70),
    ],
)
def test_errors_are_subsonics(api: httpx.Client, name: str, params: dict, code: int) -> None:
    output = ask(api, name, **params)
    assert (output["status"], output["error"]["code"]) == ("failed", code)
    assert TOKEN not in str(output)


def test_all_ways_to_bring_the_token(api: httpx.Client) -> None:
    salted = hashlib.md5(f"{TOKEN}salt".encode()).hexdigest()
    for params in (
        {"p": TOKEN},
        {"t": salted, "s": "salt"},
        {"t": salted.upper(), "s": "salt"},
        {"apiKey": TOKEN},
    ):
        response = api.get("/rest/ping", params={"u": "me", "f": "json", **params})
        assert response.json()["subsonic-response"]["status"] == "ok"
        assert (
            api.post("/rest/ping", data={"f": "json", **params}).json()["subsonic-response"]["status"] == "ok"
        )

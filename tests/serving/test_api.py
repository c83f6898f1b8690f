"""The HTTP API against a real server: answers, pages, errors, switches."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

import simsong
from simsong.search.song_query import SongFilters, SongQuery
from storage.store import Store
from storage.tables import FUNNEL
from tests.asked_store import ARTISTS, track_id, write_asked_store
from tests.search.test_neighbours import published
from tests.serving.server import kind_of, served


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = write_asked_store(tmp_path_factory.mktemp("serving") / "store")
    (Path(store.backend.url) / "audio").mkdir()
    (Path(store.backend.url) / "audio/1").write_bytes(bytes(range(200)))
    return store


@pytest.fixture(scope="module")
def api(store: Store) -> Iterator[httpx.Client]:
    with served(store) as client:
        yield client


def items(response: httpx.Response) -> list[dict]:
    assert response.status_code == 200, response.text
    return response.json()["items"]


def test_similar_is_what_python_says(api: httpx.Client, store: Store) -> None:
    with simsong.open(store.backend.url) as songs:
        for params, asked in (
            ({"like": "TR000", "k": 7}, SongQuery(like=("TR000",), k=7)),
            ({"like": "TR000", "unlike": "TR001"}, SongQuery(like=("TR000",), unlike=("TR001",))),
            (
                {"like": "TR000", "only_genre": "jazz", "per_artist": 1},
                SongQuery(like=("TR000",), per_artist=1, filters=SongFilters(genres=("jazz",))),
            ),
            ({"artist": ARTISTS[0]}, SongQuery(artists=(ARTISTS[0],))),
        ):
            expected = songs.search(asked)
            found = items(api.get("/api/similar", params=params))
            assert [hit["track_id"] for hit in found] == [row["track_id"] for row in expected]
            assert [hit["score"] for hit in found] == pytest.approx(
                [row["score"] for row in expected], abs=1e-4
            )


def test_search_as_you_type(api: httpx.Client) -> None:
    def titles(q: str) -> list[str]:
        return [f"{one['artist']} - {one['title']}" for one in items(api.get("/api/songs", params={"q": q}))]

    assert titles("ada bell am")[0].startswith("Ada Bell - Amber")
    assert titles("AMBER cloud")[0].endswith("Amber cloud") and titles("mber clo")
    assert titles("") and not titles("zq")
    rough = api.get("/api/songs", params={"q": "adda bel amber"}).json()
    assert rough["roughly"] and rough["items"][0]["artist"] == "Ada Bell"
    dune = titles("dune [live]")
    assert dune and all(one.startswith("Dune [live]") for one in dune)


def test_pages_follow_each_other_and_tags_spare_the_body(api: httpx.Client) -> None:
    first = api.get("/api/songs", params={"limit": 25})
    ids, url = [one["track_id"] for one in items(first)], first.links.get("next")
    while url:
        response = api.get(url["url"])
        ids += [one["track_id"] for one in items(response)]
        url = response.links.get("next")
    assert len(ids) == len(set(ids)) == first.json()["total"] == 56
    again = api.get("/api/songs", params={"limit": 25}, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (
        api.get(
            "/api/songs", params={"limit": 24}, headers={"If-None-Match": first.headers["etag"]}
        ).status_code
        == 200
    )


def test_why_names_what_is_shared_and_the_windows(api: httpx.Client) -> None:
    told = api.get("/api/why", params={"a": "TR000", "b": "TR012", "windows": 2}).json()
    aspects = {reason["aspect"]: reason for reason in told["reasons"]}
    assert {"audio", "lyrics", "genre", "artist", "listeners"} <= aspects.keys()
    assert aspects["listeners"]["score"] == pytest.approx(0.9)
    pairs = told["windows"]
    assert len(pairs) == 2 and pairs[0]["score"] >= pairs[1]["score"]
    assert len({pair["a"]["number"] for pair in pairs}) == 2
    assert pairs[0]["a"]["end_s"] - pairs[0]["a"]["start_s"] == 30


def test_artists_albums_labels_and_the_map(api: httpx.Client, store: Store) -> None:
    assert len(items(api.get("/api/artists"))) == len(ARTISTS)
    near = items(api.get("/api/artists/similar", params={"name": "ada bell", "k": 3}))
    assert len(near) == 3 and near[0]["score"] >= near[2]["score"]
    written = store.read("artist_neighbours").to_pylist()
    assert [one["score"] for one in near] == pytest.approx(
        [row["score"] for row in written if row["artist_id"] == "AR00"][:3], abs=1e-5)
    assert kind_of(api.get("/api/artists/similar", params={"name": "Nobody Here"})) == "not-found"
    assert len(items(api.get("/api/albums", params={"q": "album 3", "limit": 200}))) > 1
    facets = api.get("/api/facets").json()
    assert {one["name"] for one in facets["genres"]} == {"Electronic", "Folk", "Jazz", "Rock"}
    layout = api.get("/api/map").json()
    assert len(layout["track_ids"]) == len(layout["x"]) == len(layout["cluster"]) == 56
    assert all(-1 <= x <= 1 for x in layout["x"])


def test_facts_are_those_of_the_program(api: httpx.Client, store: Store) -> None:
    assert api.get("/api/funnel").json()["stages"]["fetch_audio"]["failed"]["no_match"]
    assert kind_of(api.get("/api/catalogue")) == "store"
    assert api.get("/api/models").json() == []
    assert kind_of(api.get("/api/evaluation")) == "not-found"
    status = api.get("/api/status").json()
    assert status["published"]["songs"] == 56 and not status["progress"]["running"]
    with Store.writing(store.backend.url):
        time.sleep(2.1)
        running = api.get("/api/status").json()["progress"]
        assert running["running"] and running["writer"] and running["stages"]["trim"]["ok"]


def test_songs_are_streamed_by_ranges(api: httpx.Client) -> None:
    url = f"/api/songs/{track_id(1)}/audio"
    assert api.get(url).content == bytes(range(200))
    part = api.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["content-range"] == "bytes 10-19/200"
    assert api.get(url, headers={"Range": "bytes=500-"}).status_code == 416
    assert "sandbox" in part.headers["content-security-policy"]
    window = api.get(f"/api/songs/{track_id(1)}/windows/2/audio", headers={"Range": "bytes=1-2"})
    assert (window.content, window.headers["content-type"]) == (b"La", "audio/flac")
    assert kind_of(api.get(f"/api/songs/{track_id(1)}/windows/9/audio")) == "not-found"
    assert kind_of(api.get(f"/api/songs/{track_id(2)}/audio")) == "not-found", "pruned"
    assert kind_of(api.get(f"/api/songs/{track_id(7)}/audio")) == "not-found", "never fetched"


def test_players_get_playlists_in_which_a_title_is_one_line(api: httpx.Client) -> None:
    response = api.get("/api/playlist", params={"song": [track_id(14), track_id(13)], "name": "a\r\nX: y"})
    lines = response.text.splitlines()
    assert len(lines) == 6 and lines[0] == "#EXTM3U" and "\x1b" not in response.text
    assert lines[3].endswith(f"/api/songs/{track_id(14)}/audio")
    assert "\n" not in response.headers["content-disposition"]
    jspf = api.get("/api/playlist", params={"song": track_id(1), "format": "jspf"}).json()
    assert jspf["playlist"]["track"][0]["identifier"] == [f"urn:simsong:{track_id(1)}"]      # XSPF: a URI
    assert kind_of(api.get("/api/playlist", params={"song": "none"})) == "not-found"


@pytest.mark.parametrize(
    ("path", "params", "status", "kind"),
    [
        ("/api/songs/nobody", {}, 404, "not-found"),
        ("/api/songs/../../etc/passwd", {}, 404, None),
        ("/api/songs/%2e%2e%2f%2e%2e%2fetc%2fpasswd", {}, 404, "not-found"),
        ("/page/..%2f..%2fconfig.py", {}, 404, "not-found"),
        ("/page/%2fetc%2fpasswd", {}, 404, "not-found"),
        ("/api/similar", {}, 400, "query"),
        ("/api/similar", {"like": "'; DROP TABLE songs; --"}, 404, "no-such-song"),
        ("/api/similar", {"like": "/etc/passwd"}, 404, "no-such-song"),
        ("/api/similar", {"like": "\x00\x07\x1b"}, 404, "no-such-song"),
        ("/api/similar", {"like": "amber"}, 409, "several-songs"),
        ("/api/similar", {"like": "TR000", "k": 0}, 422, "invalid"),
        ("/api/similar", {"like": "TR000", "k": 10**30}, 422, "invalid"),
        ("/api/similar", {"like": ["TR000"] * 51}, 422, "invalid"),
        ("/api/similar", {"like": "x" * 501}, 422, "invalid"),
        ("/api/similar", {"like": "TR000", "years": "1999-1990"}, 400, "query"),
        ("/api/similar", {"like": "TR000", "years": "now"}, 400, "query"),
        ("/api/similar", {"like": "TR000", "trait": "x=1"}, 400, "query"),
        ("/api/similar", {"like": "TR000", "only_genre": "polka"}, 400, "query"),
        ("/api/similar", {"like": "TR000", "diversity": "nan"}, 422, "invalid"),
        ("/api/similar", {"like": "TR000@9:00-1:00"}, 400, "query"),
        ("/api/similar", {"text": "calm piano"}, 409, "no-model"),
        ("/api/why", {"a": "TR000"}, 422, "invalid"),
        ("/api/why", {"a": "TR000", "b": "nobody"}, 404, "no-such-song"),
        ("/api/why", {"a": "TR000", "b": "TR000"}, 400, "query"),
        ("/api/nothing", {}, 404, "not-found"),
        ("/api/stations/..%2f..%2fstore.json", {}, 404, "not-found"),
    ],
)
def test_what_cannot_be_answered_is_a_problem(
    api: httpx.Client, path: str, params: dict, status: int, kind: str | None
) -> None:
    response = api.get(path, params=params)
    assert response.status_code == status, response.text
    assert kind is None or kind_of(response) == kind
    assert "\x1b" not in response.text and "root:" not in response.text


def test_stations_and_feedback_are_kept(api: httpx.Client, store: Store) -> None:
    made = api.post(
        "/api/stations", json={"name": "Evening <b>", "like": ["TR000"], "songs": 5, "per_artist": 1}
    )
    assert made.status_code == 201
    station = made.json()
    assert len(items(api.get(made.headers["location"]))) == 5
    assert api.get(f"/api/stations/{station['id']}/m3u8").text.count("#EXTINF") == 5
    assert [one["id"] for one in items(api.get("/api/stations"))] == [station["id"]]
    assert kind_of(api.post("/api/stations", json={"name": "x", "like": ["nobody at all"]})) == "no-such-song"
    assert kind_of(api.get("/api/recommended")) == "no-feedback"
    for song, verdict in (("TR000", "more"), ("TR001", "less"), ("TR002", "more"), ("TR002", "none")):
        assert api.put("/api/feedback", json={"track_id": song, "verdict": verdict}).status_code == 204
    with served(store) as other:  # another server over the same store
        told = other.get("/api/feedback").json()
        assert [[one["track_id"] for one in told[verdict]] for verdict in ("more", "less")] == [
            ["TR000"],
            ["TR001"],
        ]
        assert [one["name"] for one in items(other.get("/api/stations"))] == ["Evening <b>"]
        expected = items(
            other.get("/api/similar", params={"like": "TR000", "unlike": "TR001", "per_artist": 3})
        )
        assert items(other.get("/api/recommended", params={"k": 10})) == expected
    assert api.delete(f"/api/stations/{station['id']}").status_code == 204
    assert kind_of(api.delete(f"/api/stations/{station['id']}")) == "not-found"


def test_the_plugins_of_audiomuse_are_answered(api: httpx.Client) -> None:
    """As its Navidrome plugin asks: github.com/NeptuneHub/AudioMuse-AI-NV-plugin, main.go."""
    tracks = api.get(
        "/api/similar_tracks",
        params={
            "item_id": "TR000",
            "n": "5",
            "eliminate_duplicates": "true",
            "radius_similarity": "true",
            "server": "a",
        },
    ).json()
    assert len(tracks) == 5 and set(tracks[0]) == {"item_id", "title", "author", "album", "distance"}
    assert len({one["author"] for one in tracks}) == 5
    assert [one["distance"] for one in tracks] == sorted(one["distance"] for one in tracks)
    by_name = api.get(
        "/api/similar_tracks", params={"title": "amber amber", "artist": "ada bell", "n": 5}
    ).json()
    assert by_name == tracks
    told = {
        "start_song_id": "TR000",
        "end_song_id": "TR005",
        "count": "8",
        "max_steps": "8",
        "mood_pct": "100",
    }
    route = api.get("/api/find_path", params=told).json()
    assert (route["path"][0]["item_id"], route["path"][-1]["item_id"]) == ("TR000", "TR005")
    assert 2 <= len(route["path"]) <= 8 and route["total_distance"] > 0
    assert api.get("/api/find_path", params={"start_song_id": "TR000"}).status_code == 400
    artists = api.get(
        "/api/similar_artists", params={"artist": "AR00", "n": "3", "include_component_matches": "true"}
    ).json()
    assert len(artists) == 3 and artists[0]["artist_id"].startswith("AR")
    assert artists[0]["component_matches"][0]["artist2_representative_songs"][0]["item_id"]
    assert api.get("/api/similar_artists", params={"artist": "Nobody Here"}).status_code == 404
    assert api.get("/api/similar_artists").status_code == 400


def test_a_path_leads_from_one_song_to_the_other(api: httpx.Client) -> None:
    told = items(api.get("/api/path", params={"from": "TR000", "to": "TR005", "songs": 6}))
    ids = [one["track_id"] for one in told]
    assert (ids[0], ids[-1]) == ("TR000", "TR005") and 2 < len(ids) <= 6 and len(set(ids)) == len(ids)
    for before, after in pairwise(ids):
        step = api.get("/api/why", params={"a": before, "b": after}).json()["reasons"][0]["score"]
        assert step == pytest.approx(next(one["score"] for one in told if one["track_id"] == after), abs=2e-4)
    assert kind_of(api.get("/api/path", params={"from": "TR000", "to": "TR000"})) == "query"


def test_a_publish_in_the_middle_fails_no_request_and_is_seen(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    with served(store) as api:
        before = api.get("/api/status").json()["published"]["version"]
        failures, stop = [], threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=api.base_url, timeout=60) as own:
                while not stop.is_set():
                    for path in (
                        "/api/similar?like=TR003",
                        "/api/why?a=TR003&b=TR004",
                        "/api/map",
                        "/api/songs?q=am",
                    ):
                        response = own.get(path)
                        if response.status_code != 200:
                            failures.append(response.text)

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        with Store.writing(store.backend.url) as writing:
            rows = writing.read("tracks").to_pylist()
            rows[0]["title"] = "Renamed between two requests"
            writing.write("tracks", [rows], "id2")
        published(store)
        began = time.monotonic()
        while not api.get("/api/songs", params={"q": "renamed between"}).json()["total"]:
            assert time.monotonic() - began < 5
            time.sleep(0.1)
        stop.set()
        for thread in asking:
            thread.join()
        assert not failures
        assert api.get("/api/status").json()["published"]["version"] != before


def test_before_anything_is_published_it_says_so_kindly(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path / "store")) as store:
        pass
    with served(store) as api:
        assert api.get("/").status_code == 200
        status = api.get("/api/status").json()
        assert status["published"] is None and "nothing is published yet" in status["problem"]
        assert str(tmp_path) not in status["problem"]
        assert kind_of(api.get("/api/songs")) == "nothing-published"
        assert (api.get("/api/health").status_code, api.get("/api/ready").status_code) == (200, 503)
        write_asked_store(tmp_path / "store")  # the first publish
        began = time.monotonic()  # what is there in between may be shown too
        while (is_of := api.get("/api/status").json()["published"]) is None or is_of["coverage"]:
            assert time.monotonic() - began < 30
            time.sleep(0.1)
        assert api.get("/api/songs").json()["total"] == 56
        assert api.get("/api/ready").status_code == 200


def test_metrics_count_requests_by_route(api: httpx.Client) -> None:
    api.get("/api/songs/TR000")
    text = api.get("/metrics").text
    assert 'simsong_requests_total{method="GET",route="/api/songs/{track_id}",status="200"}' in text
    assert "simsong_songs 56.0" in text and "TR000" not in text


def test_the_page_has_a_word_for_every_stage() -> None:
    page = (Path(__file__).parents[2] / "simsong/serving/page/views.js").read_text("utf-8")
    words = page.partition("const STAGES = {")[2].partition("}")[0]
    assert set(re.findall(r"(\w+): '", words)) == set(FUNNEL)

"""The demo's sites, asked by the real yt-dlp and the real lyricsgenius."""

from __future__ import annotations

import http.client
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import lyricsgenius
import pytest
import requests
import soundfile
import yt_dlp
from yt_dlp.utils import DownloadError

from simsong.demo.plan import KINDS
from simsong.demo.server import DROP, DemoServer, SearchIndex, serve
from simsong.demo.world import Track, World, build_world

HOSTILE = '</script><b>&"\'\x07 "Örk" <!-- ]]>'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("demo") / "world", 24, seed=4, workers=1,
                       duration_s=(12.0, 14.0),
                       kinds=dict.fromkeys(KINDS, 1))


@pytest.fixture
def server(world: World) -> Iterator[DemoServer]:
    with serve(world) as running:
        yield running


class _Quiet:
    def debug(self, _: str) -> None: ...
    info = warning = error = debug


def ytdl(**options: Any) -> yt_dlp.YoutubeDL:
    quiet: Any = {"quiet": True, "noprogress": True, "logger": _Quiet(), "extractor_retries": 0, "retries": 0}
    return yt_dlp.YoutubeDL(quiet | options)


def search(server: DemoServer, words: str) -> list[dict[str, Any]]:
    with ytdl(extract_flat=True) as downloader:
        results: Any = downloader.extract_info(server.search.format(query=quote(words)), download=False)
    return list(results["entries"])


def client(server: DemoServer, token: str = "any") -> lyricsgenius.Genius:
    # lyricsgenius sends the token only where the class is called Genius
    roots = {"API_ROOT": f"{server.genius_root}/", "PUBLIC_API_ROOT": f"{server.genius_root}/api/",
             "WEB_ROOT": f"{server.genius_root}/"}
    return type("Genius", (lyricsgenius.Genius,), roots)(token, sleep_time=0)


def of_kind(world: World, kind: str | None) -> Track:
    return next(track for track in world.tracks if track.kind == kind)


# --- audio

def test_search_lists_the_right_page_for_every_song(server: DemoServer, world: World):
    for track in world.tracks:
        if track.page:
            assert world.page[track.page] in server.find(f"{track.artist} - {track.title}")


def test_ytdlp_finds_resolves_and_downloads_a_song(server: DemoServer, world: World, tmp_path: Path):
    track = of_kind(world, None)
    page = world.page[str(track.page)]
    entries = search(server, f"{track.artist} - {track.title}")
    assert page.title in [entry["title"] for entry in entries[:3]]
    entry = next(entry for entry in entries if entry["title"] == page.title)
    assert entry["duration"] == round(page.duration_s)
    with ytdl(outtmpl=str(tmp_path / "%(id)s.%(ext)s"), format="bestaudio/best") as downloader:
        info: Any = downloader.extract_info(entry["url"])
    assert (info["id"], info["title"], info["uploader"]) == (page.page_id, page.title, track.artist)
    assert info["duration"] == round(page.duration_s) and info["ext"] == Path(str(page.file)).suffix[1:]
    assert (tmp_path / str(page.file)).read_bytes() == (world.audio / str(page.file)).read_bytes()


def test_every_sound_file_is_served_as_what_it_is(server: DemoServer, world: World):
    suffixes = set()
    for track in world.tracks:
        if track.page and track.has_audio:
            with ytdl() as downloader:
                info: Any = downloader.extract_info(f"{server.url}/watch/{track.page}", download=False)
            suffixes.add(info["ext"])
            assert abs(info["duration"] - track.duration_s) < 1
    assert suffixes == {"flac", "ogg", "mp3"}


@pytest.mark.parametrize(("kind", "status"), [("removed", 404), ("private", 403)])
def test_lost_pages_answer_as_a_site_would(server: DemoServer, world: World, kind: str, status: int):
    page = world.page[str(of_kind(world, kind).page)]
    assert page.title in [entry["title"] for entry in search(server, page.title)]      # the index is stale
    with ytdl() as downloader, pytest.raises(DownloadError, match=f"HTTP Error {status}"):
        downloader.extract_info(f"{server.url}/watch/{page.page_id}")
    answer = requests.get(f"{server.url}/watch/{page.page_id}", timeout=5)
    assert answer.status_code == status and ("This video is private" in answer.text) == (kind == "private")


def test_broken_files_download_but_do_not_decode(server: DemoServer, world: World, tmp_path: Path):
    for kind in ("truncated", "garbage"):
        with ytdl(outtmpl=str(tmp_path / f"{kind}.%(ext)s")) as downloader:
            downloader.extract_info(f"{server.url}/watch/{of_kind(world, kind).page}")
        with pytest.raises(soundfile.LibsndfileError):
            soundfile.read(next(tmp_path.glob(f"{kind}.*")))


def test_decoys_stand_beside_the_right_page(server: DemoServer, world: World):
    twin = of_kind(world, "karaoke_twin")
    titles = [entry["title"] for entry in search(server, f"{twin.artist} - {twin.title}")]
    karaoke = f"{twin.artist} - {twin.title} (Karaoke Version)"
    assert {world.page[str(twin.page)].title, karaoke} <= set(titles)
    wrong = of_kind(world, "wrong_duration")
    entries = {e["title"]: e["duration"] for e in search(server, f"{wrong.artist} - {wrong.title}")}
    assert 3400 < entries[f"{wrong.artist} - {wrong.title} [1 HOUR LOOP]"] < 3800
    assert abs(entries[f"{wrong.artist} - {wrong.title}"] - wrong.catalogue_duration_s) > 60


def test_search_ranks_by_shared_words():
    index = SearchIndex([("a", "Velvet Foxes - The Tide"), ("b", "Velvet Foxes - The Anchor"),
                         ("c", "Ada Rao - Snow"),
                         ("d", "Ada Rao - The Tide (Live at Harbour Hall)"), ("e", "Ada Rao - The Tide")])
    assert index.find("velvet foxes THE TIDE", 10)[:2] == ["a", "b"]
    assert index.find("Ada Rao - The Tide", 2) == ["e", "d"]
    assert index.find("nothing of this", 10) == []


@pytest.mark.parametrize(("byte_range", "status", "span"), [
    ("bytes=0-99", 206, slice(0, 100)), ("bytes=100-", 206, slice(100, None)),
    ("bytes=-50", 206, slice(-50, None)),
    ("bytes=10-10000000000", 206, slice(10, None)), ("bytes=10000000000-", 416, slice(0, 0)),
    ("lines=1-2", 200, slice(None)),
    ("bytes=-", 200, slice(None))])
def test_ranges(server: DemoServer, world: World, byte_range: str, status: int, span: slice):
    file = str(world.page[str(of_kind(world, None).page)].file)
    whole = (world.audio / file).read_bytes()
    answer = requests.get(f"{server.url}/audio/{file}", headers={"Range": byte_range}, timeout=5)
    assert (answer.status_code, answer.content) == (status, whole[span])
    assert ("Content-Range" in answer.headers) == (status != 200)
    assert requests.head(f"{server.url}/audio/{file}", timeout=5).headers["Content-Length"] == str(len(whole))


@pytest.mark.parametrize("path", ["/audio/../world.json", "/audio/%2e%2e/world.json",
                                  "/audio/..%2fworld.json", "/audio//etc/passwd",
                                  "/audio/", "/audio", "/../world.json", "/watch/../world.json",
                                  "/genius/../world.json", "/nowhere"])
def test_a_path_never_leaves_the_audio_folder(server: DemoServer, path: str):
    connection = http.client.HTTPConnection(str(urlsplit(server.url).netloc), timeout=5)
    connection.request("GET", path)                          # as it stands: requests would tidy it up
    answer = connection.getresponse()
    assert answer.status == 404 and b"parameters" not in answer.read()


def test_hostile_titles_are_escaped(world: World):
    page = replace(world.page[str(of_kind(world, None).page)], title=HOSTILE, uploader=HOSTILE)
    song = replace(world.genius[0], title=HOSTILE,
                   lyrics="[Verse 1]\n<script>alert(1)</script> & more\n\n[Chorus]\nla")
    with serve(replace(world, pages=(page,), genius=(song,))) as server:
        feed = requests.get(server.search.format(query=quote("Örk <x> \x07")), timeout=5).text
        title = ET.fromstring(feed).findtext("./channel/item/title")
        assert title == HOSTILE.replace("\x07", "")          # XML cannot hold it
        with ytdl() as downloader:
            info: Any = downloader.extract_info(f"{server.url}/watch/{page.page_id}", download=False)
        assert info["title"] == HOSTILE
        html = requests.get(f"{server.url}/watch/{page.page_id}", timeout=5).text
        assert "</script><b>" not in html
        lyrics = client(server).lyrics(song_id=song.genius_id)
        assert lyrics is not None and "<script>alert(1)</script> & more" in lyrics


# --- lyrics

def test_lyricsgenius_finds_lyrics(server: DemoServer, world: World):
    genius = client(server)
    for track in [track for track in world.tracks if track.kind is None][:4]:
        song = genius.search_song(track.title, track.artist)
        assert song is not None and (song.title, song.artist) == (track.title, track.artist)
        hit = genius.search_songs(f"{track.title} {track.artist}", per_page=5)["hits"][0]["result"]
        assert (hit["title"], hit["primary_artist"]["name"]) == (track.title, track.artist)
        words = [line for line in str(track.lyrics).split("\n") if line]
        assert [line for line in words if line not in song.lyrics] == []
        # what a cleaner has to take away
        assert "Contributors" in song.lyrics.split("\n")[0] and song.lyrics.endswith("Embed")
        assert "You might also like" in song.lyrics and "[Chorus]" in song.lyrics


def test_songs_without_lyrics(server: DemoServer, world: World):
    genius = client(server)
    unknown, stranger = of_kind(world, "no_lyrics"), of_kind(world, "other_artist_lyrics")
    assert genius.search_song(unknown.title, unknown.artist) is None
    hits = genius.search_songs(f"{stranger.title} {stranger.artist}")["hits"]
    same = [hit["result"]["artist_names"] for hit in hits if hit["result"]["title"] == stranger.title]
    assert same and stranger.artist not in same
    instrumental = of_kind(world, "instrumental")
    result = genius.search_songs(f"{instrumental.title} {instrumental.artist}")["hits"][0]["result"]
    assert result["title"] == instrumental.title and result["instrumental"]
    assert genius.song(result["id"])["song"]["instrumental"]


def test_the_api_wants_a_token(world: World):
    with serve(world, token="right") as server:
        for path in ("search?q=x", f"songs/{world.genius[0].genius_id}"):
            url = f"{server.genius_root}/{path}"
            assert requests.get(url, timeout=5).status_code == 401
            assert requests.get(url, headers={"Authorization": "Bearer wrong"}, timeout=5).status_code == 401
            assert requests.get(url, headers={"Authorization": "Bearer right"}, timeout=5).status_code == 200
        assert requests.get(f"{server.genius_root}/api/search/multi?q=x", timeout=5).status_code == 200


# --- faults

def test_faults_come_and_go(server: DemoServer, world: World):
    page = world.page[str(of_kind(world, None).page)]
    path = f"/audio/{page.file}"
    server.faults[path] = 500
    assert requests.get(server.url + path, timeout=5).status_code == 500
    assert requests.get(f"{server.url}/watch/{page.page_id}", timeout=5).status_code == 200
    del server.faults[path]
    assert requests.get(server.url + path, timeout=5).status_code == 200
    server.faults["/genius/"] = 429
    assert requests.get(f"{server.genius_root}/api/search?q=x", timeout=5).status_code == 429
    server.faults["/search"] = DROP
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/search?q=x", timeout=5)
    assert server.requests[:2] == [("GET", path), ("GET", f"/watch/{page.page_id}")]
    assert server.requests[-1] == ("GET", "/search?q=x")


def test_a_given_port_is_taken_and_given_back(world: World):
    with serve(world) as first:
        port = first.server_address[1]
        with pytest.raises(OSError, match="in use"):
            DemoServer(world, port)
    with serve(world, port) as again:
        assert again.url == f"http://127.0.0.1:{port}" and requests.get(again.url,
                                                                        timeout=5).status_code == 200

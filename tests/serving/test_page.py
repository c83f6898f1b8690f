"""The page in a real browser (Chromium, headless), over a real server and songs that sound."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from simsong.config import Config
from simsong.parts.stages import RunContext
from storage.store import Store
from tasks.artists import artists
from tests.asked_store import lay_on_circle, write_asked_store
from tests.search.test_neighbours import published
from tests.serving.server import served
from tests.small_world import configured, refresh, write_song

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
HOSTILE = "<img src=x onerror=window.hacked=1>"
NAMES = ("one", "two", "three", "four", "five", HOSTILE)
EXPECTED = ("/api/evaluation", "/api/session", "/api/status")  # nothing is measured; a token is asked for
VIEWS = ("#/", "#/mix", "#/map", "#/playlist", "#/library", "#/file", "#/nothing")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("page")
    files = {name: write_song(folder / "music", name, seconds=4.0) for name in NAMES}
    config = configured(folder / "music", folder / "store", publish={"model": "mfcc"})
    refresh(config)
    published(Store.open(config.store))
    with Store.writing(config.store) as store:
        assert store.generation is not None
        artists.fn(run=RunContext(config=config, generation=store.generation), after=[])
        lay_on_circle(store)
    return config, files


@pytest.fixture(scope="module")
def address(world: tuple[Config, dict[str, Path]]) -> Iterator[str]:
    with served(Store.open(world[0].store), config=world[0]) as client:
        yield f"{client.base_url}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )


class Tab:
    """A page, and all that went wrong in it, or was asked of others than its server."""

    def __init__(self, browser: Browser, address: str, width: int = 1440, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 860},
            color_scheme=scheme,  # pyright: ignore[reportArgumentType]
            accept_downloads=True,
        )
        self.page, self.faults, self.address = self.context.new_page(), list[str](), address
        self.page.set_default_timeout(20_000)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console",
            lambda line: (
                self.faults.append(line.text)
                if line.type == "error" and "Failed to load resource" not in line.text
                else None
            ),
        )
        self.page.on(
            "response",
            lambda given: (
                self.faults.append(f"{given.status} {given.url}")
                if given.status >= 400 and not given.url.endswith(EXPECTED)
                else None
            ),
        )
        self.page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((address, "blob:", "data:"))
                else self.faults.append(f"asked elsewhere: {request.url}")
            ),
        )
        self.page.goto(address)
        self.page.wait_for_selector("h1")

    def go(self, view: str) -> None:
        self.page.goto(self.address + view)
        self.page.wait_for_selector("#main h1, #main .error")
        if view == "#/map":
            self.page.wait_for_selector(".mapbox[data-drawn]")
        self.page.wait_for_load_state("networkidle")


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    tab = Tab(browser, address)
    yield tab
    tab.context.close()
    assert not tab.faults


def until(page: Page, script: str) -> None:
    """As `wait_for_function`, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(script):
            return
        time.sleep(0.1)
    raise AssertionError(script)


def song_of(tab: Tab, name: str) -> dict:
    figures = tab.page.evaluate(
        "q => fetch(`api/songs?q=${encodeURIComponent(q)}`).then(r => r.json())", f"of {name}"
    )
    return next(one for one in figures["items"] if one["title"] == f"song of {name}")


def test_a_stranger_finds_and_hears_a_similar_song_by_keys_alone(tab: Tab) -> None:
    page = tab.page
    page.keyboard.press("/")
    page.keyboard.type("song of tw", delay=20)
    page.wait_for_selector("#found [role=option]")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#find", "aria-activedescendant") == "found-0"
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('song of two')")
    page.wait_for_selector(".songs .song")
    assert page.locator(".songs .song").count() == len(NAMES) - 1
    page.locator(".songs .song button.cover").first.focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.player') && !document.querySelector('.player').hidden")
    until(page, "document.querySelector('.seek input').value > 50")
    assert page.locator(".song.playing").count() >= 1
    page.keyboard.press("k")
    page.wait_for_selector(".player .play[aria-label=Play]")


def test_why_plays_the_two_windows_that_agree(tab: Tab) -> None:
    page = tab.page
    tab.go(f"#/song/{song_of(tab, 'one')['track_id']}")
    page.locator(".songs .song .acts button[aria-label^=Why]").first.click()
    page.wait_for_selector(".why .reasons .head")
    assert "Sound" in page.inner_text(".why .reasons")
    until(page, "[...document.querySelectorAll('.clip .wave')].every(w => w.firstChild?.shadowRoot)")
    clips = page.locator(".why .clip button")
    assert clips.count() == 2
    clips.first.click()
    until(
        page, "document.querySelectorAll('.clip button svg path')[0].getAttribute('d').startsWith('M8 5v14')"
    )


def test_plus_and_minus_make_a_mix_that_is_kept_as_a_station(tab: Tab) -> None:
    page = tab.page
    for name, label in (("one", "More like it"), ("two", "Less like it")):
        tab.go(f"#/song/{song_of(tab, name)['track_id']}")
        page.click(f".song-head button:has-text('{label}')")
    tab.go("#/mix")
    until(page, "document.querySelectorAll('#main[data-view=mix] .songs .names a').length > 2")
    titles = page.locator(".songs .names a").all_inner_texts()
    expected = page.evaluate(
        "([a, b]) => fetch(`api/similar?like=${a}&unlike=${b}&k=25`).then(r => r.json())",
        [song_of(tab, "one")["track_id"], song_of(tab, "two")["track_id"]],
    )
    assert titles == [one["title"] for one in expected["items"]]
    page.click("button:has-text('Save as a station')")
    page.fill("dialog input", "Evening")
    page.click("dialog button[type=submit]")
    page.wait_for_selector("h1:has-text('Evening')")
    tab.go("#/")
    page.wait_for_selector("a.chip:has-text('Evening')")


def test_a_playlist_goes_out_as_a_file(tab: Tab) -> None:
    page = tab.page
    tab.go(f"#/song/{song_of(tab, 'three')['track_id']}")
    page.wait_for_selector(".songs .song")
    page.click("button:has-text('All into the playlist')")
    tab.go("#/playlist")
    assert page.locator(".songs .song").count() == len(NAMES)
    with page.expect_download() as given:
        page.click("button:has-text('M3U8')")
    text = Path(given.value.path()).read_text()
    assert text.count("#EXTINF") == len(NAMES) and tab.address in text
    page.locator("button[aria-label$='out of the playlist']").first.click()
    until(page, f"document.querySelectorAll('.songs .song').length === {len(NAMES) - 1}")
    page.reload()
    page.wait_for_selector(".songs .song")
    assert page.locator(".songs .song").count() == len(NAMES) - 1, "kept in this browser"


def test_a_file_is_searched_by(tab: Tab, world: tuple[Config, dict[str, Path]]) -> None:
    page = tab.page
    page.set_input_files("#file", world[1]["four"])
    page.wait_for_selector(".songs .song")
    assert page.locator(".songs .names a").first.inner_text() == "song of four"
    page.set_input_files("#file", {"name": "x.mp3", "mimeType": "audio/mpeg", "buffer": b"no sound"})
    page.wait_for_selector(".error[role=alert]")
    assert [fault[:3] for fault in tab.faults] == ["422"]
    tab.faults.clear()


def test_the_map_is_drawn_and_a_group_leads_to_a_song(tab: Tab) -> None:
    page = tab.page
    tab.go("#/map")
    assert page.get_attribute(".mapbox", "data-drawn") == str(len(NAMES))
    box = page.locator(".mapbox").bounding_box()
    assert box is not None
    drawn = page.frames[1].evaluate("() => document.getElementById('map').width")
    assert drawn > 100
    page.frames[1].evaluate("() => parent.postMessage({kind: 'select', at: 0}, location.origin)")
    page.wait_for_selector(".picked .names a")
    page.click(".picked a.main")
    page.wait_for_selector(".song-head h1")


def test_hostile_titles_are_text(tab: Tab) -> None:
    page = tab.page
    song = song_of(tab, HOSTILE)
    for view in (f"#/song/{song['track_id']}", "#/", "#/mix", "#/library"):
        tab.go(view)
    tab.go(f"#/song/{song['track_id']}")
    page.wait_for_selector(f"h1:has-text('{HOSTILE}')")
    page.fill("#find", "song of")
    page.wait_for_selector("#found [role=option]")
    assert page.evaluate("window.hacked") is None and page.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing_serious_and_nothing_hangs_over(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    tab = Tab(browser, address, width, scheme)
    song = song_of(tab, "one")["track_id"]
    tab.page.evaluate(
        "song => fetch(`api/songs?limit=3`).then(r => r.json()).then(({items}) => {"
        "localStorage.setItem('simsong.playlist', JSON.stringify(items));"
        "localStorage.setItem('simsong.mix', JSON.stringify({like: items.slice(0, 1), unlike: []}))})",
        song,
    )
    tab.page.reload()
    for view in (*VIEWS, f"#/song/{song}"):
        tab.go(view)
        if "song/" in view:
            tab.page.wait_for_selector(".songs .song")
            tab.page.locator(".songs .song .acts button").first.click()
            tab.page.wait_for_selector(".why .reasons .head")
        process = Axe().run(tab.page)
        serious = [
            f"{one['id']}: {[node['target'] for node in one['nodes']][:3]}"
            for one in process.response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious, (view, serious)
        over = tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, (view, over)
    tab.context.close()
    assert not tab.faults


def test_before_anything_is_published_it_says_so_and_fills_by_itself(
    browser: Browser, tmp_path: Path
) -> None:
    with Store.writing(str(tmp_path / "store")) as store:
        pass
    with served(store) as api:
        tab = Tab(browser, f"{api.base_url}/")
        tab.page.wait_for_selector("h1:has-text('Nothing to listen to yet')")
        assert "simsong run --folder" in tab.page.inner_text("main")
        write_asked_store(tmp_path / "store")
        tab.page.wait_for_selector(".card", timeout=20_000)
        release = threading.Event()

        def write() -> None:
            with Store.writing(store.backend.url):
                release.wait(30)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            tab.page.wait_for_selector(".progress:has-text('A refresh is running')", timeout=20_000)
        finally:
            release.set()
            writer.join()
        tab.context.close()


def test_a_token_is_asked_for_once(browser: Browser, world: tuple[Config, dict[str, Path]]) -> None:
    with served(Store.open(world[0].store), "open sesame", config=world[0]) as api:
        tab = Tab(browser, f"{api.base_url}/")
        tab.page.wait_for_selector("h1:has-text('Welcome')")
        tab.page.fill("#token", "wrong")
        tab.page.click("button[type=submit]")
        tab.page.wait_for_selector(".toast.shown")
        tab.page.fill("#token", "open sesame")
        tab.page.click("button[type=submit]")
        tab.page.wait_for_selector(".card")
        tab.page.reload()
        tab.page.wait_for_selector(".card")
        time.sleep(0.1)
        tab.context.close()

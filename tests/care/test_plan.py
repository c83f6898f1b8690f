"""What `--plan` says would be done, beside what a refresh does then."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from simsong.care.plan import RefreshPlan, SongCounts, need_consent, plan
from simsong.care.reopen import Chosen, reopen
from simsong.config import Config
from simsong.config_loader import load
from simsong.errors import ConfigError
from simsong.parts.stages import RunContext
from storage.catalogue import Catalogue
from storage.store import Store
from tasks.ingest import ingest
from tests.cli.test_cli import simsong
from tests.small_world import configured, refresh, write_song

STAGES = ("fetch_audio", "fetch_lyrics", "trim", "segments", "traits", "embed_lyrics")


def table(folder: Path, songs: int, columns: str = "artist,title,duration_s",
          row: str = "Ann,Song {},200") -> Path:
    file = folder / "songs.csv"
    file.write_text("\n".join([columns, *(row.format(i) for i in range(songs))]) + "\n")
    return file


def planned(config: Config) -> RefreshPlan:
    refresh = plan(config)
    assert refresh is not None
    return refresh


def of(file: Path, **settings: dict[str, object]) -> Config:
    base = {"lyrics": {"provider": "genius"}, **settings}
    return load(None, {"store": str(file.parent / "store"), "sources": {"table": str(file)}, **base}, {})


def test_a_new_catalogue_is_counted_and_nothing_written(tmp_path: Path) -> None:
    file = table(tmp_path, 600)
    refresh = planned(of(file, network={"requests_per_minute": 30, "workers": 4}))
    assert refresh.songs == refresh.downloads == 600 and refresh.read
    assert refresh.stages == {name: SongCounts(new=600) for name in STAGES}
    # YouTube: one search, three requests for the page, one for the audio
    assert refresh.requests == {"searches": 600, "pages": 1800, "media": 600, "lyrics": 1200}
    assert refresh.hours == {"audio": round(3000 / 30 / 60, 3), "lyrics": round(1200 / 30 / 60, 3)}
    assert refresh.download_bytes == 600 * 200 * 16_000
    assert refresh.segment_bytes == 600 * 6 * 30 * 20_000         # six whole windows in 200 s
    assert refresh.fits == (refresh.download_bytes + refresh.segment_bytes <= (refresh.free_bytes or 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["songs.csv"]


def test_pace_lengths_and_windows_come_from_the_configuration(tmp_path: Path) -> None:
    file = table(tmp_path, 10)
    slow = planned(of(file, network={"workers": 2, "sleep_s": 4.0}, lyrics={"provider": "none"}))
    assert slow.hours == {"audio": round(10 * 5 * (1 + 4) / 2 / 3600, 3), "lyrics": 0.0}
    throttled = planned(of(file, network={"workers": 1, "rate_limit_bps": 1000}))
    assert throttled.hours["audio"] == round(10 * 200 * 16_000 / 1000 / 3600, 3)
    assert planned(of(file, segments={"count": 2})).segment_bytes == 10 * 2 * 30 * 20_000
    assert planned(of(file, segments={"hop_s": 10.0})).segment_bytes == 10 * 18 * 30 * 20_000
    both = planned(of(file, lyrics={"provider": "genius,lrclib"}))
    assert both.requests["lyrics"] == 40
    assert planned(of(file, fetch={"audio": False})).stages == {}


def test_known_addresses_need_no_search_and_local_files_no_request(tmp_path: Path) -> None:
    file = table(tmp_path, 5, "artist,title,url", "Ann,Song {0},https://example.org/{0}.mp3")
    refresh = planned(of(file, fetch={"search": "https://example.org/?q={query}"}))
    assert (refresh.requests["searches"], refresh.requests["pages"], refresh.requests["media"]) == (0, 5, 5)
    assert "a song has 240 s (no duration is known)" in refresh.assumed
    write_song(tmp_path / "music", "ann")
    local = planned(configured(tmp_path / "music", tmp_path / "other"))
    assert (local.songs, local.downloads, local.download_bytes) == (1, 0, 0)
    assert local.stages["fetch_audio"] == SongCounts(new=1)
    assert set(local.requests.values()) == {0}


def test_what_is_there_is_kept_and_what_comes_is_new(tmp_path: Path) -> None:
    for name in ("ann", "bob", "cat"):
        write_song(tmp_path / "music", name)
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    result = planned(config)
    assert not result.read and result.stages == {name: SongCounts(kept=3) for name in STAGES}
    write_song(tmp_path / "music", "dan")
    result = planned(config)
    assert result.read and result.songs == 4
    assert result.stages == {name: SongCounts(new=1, kept=3) for name in STAGES}
    assert {stage for stage, _ in refresh(config)} - {"ingest", "embed", "soundprints"} == set(STAGES)
    assert planned(config).stages == {name: SongCounts(kept=4) for name in STAGES}


def test_songs_that_would_leave_are_told(tmp_path: Path) -> None:
    for number in range(8):
        write_song(tmp_path / "music", f"a{number}", 0.3)
    config = configured(tmp_path / "music", tmp_path / "store", fetch={"audio": False})
    refresh(config)
    assert (planned(config).lost, planned(config).refused) == (0, False)
    shutil.rmtree(tmp_path / "music/a0")
    assert (planned(config).lost, planned(config).refused) == (1, False)
    shutil.rmtree(tmp_path / "music/a1")
    assert (planned(config).lost, planned(config).refused) == (2, True)
    consent = configured(tmp_path / "music", tmp_path / "store", fetch={"audio": False},
                         run={"may_shrink": True})
    assert (planned(consent).lost, planned(consent).refused) == (2, False)
    words = ("run", "--plan", "--folder", tmp_path / "music", "--store", config.store)
    output = simsong(*words).stdout
    assert "\nlost       2 that were in it: refused without --yes\n" in output
    assert "\nlost       2 that were in it\n" in simsong(*words, "--yes").stdout
    assert len(Catalogue(Store.open(config.store)).ids()) == 8, "nothing is written"


def test_what_is_reopened_or_configured_otherwise_is_done_again(tmp_path: Path) -> None:
    for name in ("ann", "bob"):                         # one shard
        write_song(tmp_path / "music", name)
    (tmp_path / "music/bob/song of bob.txt").unlink()
    config = configured(tmp_path / "music", tmp_path / "store")
    refresh(config)
    with Store.writing(config.store) as store:
        assert len(reopen(store, Chosen("fetch_lyrics")).songs) == 1
    stages = planned(config).stages
    assert stages["fetch_lyrics"] == SongCounts(again=1, kept=1)
    assert stages["embed_lyrics"] == SongCounts(new=1, kept=1)        # at most
    assert stages["trim"] == stages["segments"] == SongCounts(kept=2)
    trimmed = configured(tmp_path / "music", tmp_path / "store", trim={"mode": "silence"})
    stages = planned(trimmed).stages
    assert (stages["fetch_audio"], stages["trim"], stages["segments"]) == \
        (SongCounts(kept=2), SongCounts(again=2), SongCounts(again=2))
    other = configured(tmp_path / "music", tmp_path / "store", fetch={"results": 30})
    assert planned(other).stages["fetch_audio"] == SongCounts(kept=2)      # what was found stays
    asking = configured(tmp_path / "music", tmp_path / "store", lyrics={"provider": "lrclib"})
    assert planned(asking).stages["fetch_lyrics"] == SongCounts(again=1, kept=1)


def test_many_downloads_want_consent(tmp_path: Path) -> None:
    file = table(tmp_path, 1001)
    with pytest.raises(ConfigError, match=r"1,001 downloads in about \d+ h: begin them with --yes"):
        need_consent(of(file))
    need_consent(of(file, catalogue={"limit": 1000}))
    need_consent(of(file, fetch={"audio": False}))
    need_consent(of(table(tmp_path, 1000)))


def test_run_refuses_in_one_line_and_plans_in_json(tmp_path: Path) -> None:
    words = ("--table", table(tmp_path, 1001), "--store", tmp_path / "store")
    refused = simsong("run", *words, code=1)
    assert len(refused.stderr.splitlines()) == 1 and "begin them with --yes" in refused.stderr
    answer = json.loads(simsong("refresh", "--plan", *words, "--json").stdout)
    assert (answer["downloads"], answer["stages"]["trim"]) == (1001, {"new": 1001, "again": 0, "kept": 0})
    text = simsong("run", "--plan", *words).stdout
    assert "downloads  1,001\n" in text
    assert "disk       3.2 GB of downloads, 3.6 GB of segments; " in text      # 200 s each
    assert "time       21 min for audio; meanwhile, for lyrics, 0 min" in text  # 5,005 requests, 4 at a time
    assert not (tmp_path / "store").exists()


def test_mending_asks_for_consent_as_a_run_does(tmp_path: Path) -> None:
    file = table(tmp_path, 1001)
    config = of(file)
    with Store.writing(config.store) as store:
        assert store.generation is not None
        ingest.fn(run=RunContext(config=config, generation=store.generation))
        part = Path(store.backend.url) / "tables/outcomes/stage=ingest/00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
    (tmp_path / "x.toml").write_text(f'store = "{config.store}"\n[sources]\ntable = "{file}"\n')
    refused = simsong("verify", "--mend", "--config", tmp_path / "x.toml", code=1)
    assert "damaged" in refused.stdout and "begin them with --yes" in refused.stderr


def test_what_a_table_tells_in_vain_is_said(tmp_path: Path) -> None:
    file = table(tmp_path, 3, "artist,title,year,duration_s", "Ann,Song {0},{0} BC,3:0{0}")
    config = of(file)
    with Store.writing(config.store) as store:
        assert store.generation is not None
        ingest.fn(run=RunContext(config=config, generation=store.generation))
    output = simsong("catalogue", "--store", tmp_path / "store").stdout
    assert re.search(r"years that cannot be used \(table\) +3\s", output)
    assert re.search(r"durations that cannot be used \(table\) +3\s", output)


@pytest.mark.parametrize(("words", "said"), [
    (("run", "--folder", "nowhere"), "nowhere"),
    (("refresh", "--plan", "--table", "nowhere.csv"), "nowhere.csv"),
    (("run",), "no catalogue: name one with --folder DIR"),
    (("evaluate",), "there is no store there"),
])
def test_a_mistake_makes_no_store(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    process = simsong(*words, "--store", tmp_path / "store", cwd=tmp_path, code=1)
    assert len(process.stderr.splitlines()) == 1 and said in process.stderr, process.stderr
    assert process.stdout == "" and not (tmp_path / "store").exists()

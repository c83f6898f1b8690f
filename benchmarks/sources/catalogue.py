"""Ingesting catalogues of full size: `python -m benchmarks.sources.catalogue [FOLDER]`.

Writes track_metadata.db, lastfm_similars.db and lastfm_tags.db in their true formats, whole and a tenth of
them (some 3 GB, into FOLDER or a temporary one), and ingests both, each in a process of its own, as well as
the tenth in the research prototype's way. Then again with nothing changed, and with 1,000 songs more.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SONGS, LISTED, PAIRS, TAGGED, TAGS = 1_000_000, 584_897, 56_506_688, 500_000, 8_598_630
NEW = 1_000
SEED = 1


def main() -> None:
    if sys.argv[1:2] == ["ours"]:
        print(json.dumps(ingest(Path(sys.argv[2]))))
    elif sys.argv[1:2] == ["prototype"]:
        print(json.dumps(prototype(Path(sys.argv[2]))))
    elif sys.argv[1:]:
        measure(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder))


def measure(folder: Path) -> None:
    tenth, whole = folder / "tenth", folder / "whole"
    for place, share in ((tenth, 10), (whole, 1)):
        write(place, share)
        shutil.rmtree(place / "store", ignore_errors=True)
    reference, first = child("prototype", tenth), child("ours", tenth)
    print_cost("the prototype's way, a tenth", reference)
    print_cost("ours, a tenth", first)
    print(f"  {reference['seconds'] / first['seconds']:.1f} times as fast as the prototype's way, from files "
          f"to files; {reference['loaded'] / first['seconds']:.1f} times where that only loads")
    full = child("ours", whole)
    print_cost("ours, the whole", full)
    print(f"  {full['seconds'] / first['seconds'] / 10:.2f} of linear, "
          f"{full['peak_mb'] / first['peak_mb']:.2f} times the memory")
    print_cost("ours, nothing changed", child("ours", whole))
    grow(whole)
    grown = child("ours", whole)
    print_cost(f"ours, {NEW:,} songs more", grown)
    assert grown["shards"] == full["shards"] + -(-NEW // 128), "new songs get shards of their own"


def write(folder: Path, share: int) -> None:
    """The three databases, if they are not there."""
    from benchmarks.sources.catalogue_files import track_ids, write_similars, write_tags, write_track_metadata

    if (folder / "whole").exists():
        return
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    songs = SONGS // share
    ids = track_ids(songs, SEED)
    write_track_metadata(folder / "track_metadata.db", songs, SEED)
    write_similars(folder / "lastfm_similars.db", ids[:LISTED // share], PAIRS // share, SEED)
    write_tags(folder / "lastfm_tags.db", ids[:TAGGED // share], TAGS // share, SEED)
    (folder / "whole").touch()
    sizes = sum(file.stat().st_size for file in folder.glob("*.db"))
    print(f"written: {songs:,} songs, {sizes / 1e9:.2f} GB, in {time.monotonic() - start:.0f} s")


def grow(folder: Path) -> None:
    """More songs in the metadata: the same ids as before, and new ones."""
    from benchmarks.sources.catalogue_files import write_track_metadata

    write_track_metadata(folder / "track_metadata.db", SONGS + NEW, SEED)
    (folder / "whole").unlink()                 # the next benchmark writes it anew


def child(way: str, folder: Path) -> dict[str, Any]:
    out = subprocess.run([sys.executable, "-m", "benchmarks.sources.catalogue", way, str(folder)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


def ingest(folder: Path) -> dict[str, Any]:
    from simsong.config_loader import load
    from simsong.parts.stages import RunContext
    from storage.reports import CATALOGUE
    from storage.store import Store
    from tasks.ingest import ingest as stage

    config = load(None, {"store": str(folder / "store"), "sources": {
        "msd": str(folder / "track_metadata.db"),
        "lastfm": [str(folder / "lastfm_similars.db"), str(folder / "lastfm_tags.db")]}}, {})
    start = time.monotonic()
    with Store.writing(config.store) as store:
        assert store.generation is not None
        done = stage.fn(run=RunContext(config=config, generation=store.generation))
    seconds = time.monotonic() - start
    rows = (store.get_json(CATALOGUE) or {})["rows"]
    return {"seconds": seconds, "peak_mb": peak_mb(), "songs": done.ok, "pairs": rows["similars"],
            "tags": rows["tags"], "shards": len(done.shards)}


def prototype(folder: Path) -> dict[str, Any]:
    from benchmarks.sources.prototype_catalogue import load_catalogue, store_catalogue

    start = time.monotonic()
    songs = load_catalogue(folder)
    loaded = time.monotonic() - start
    with tempfile.TemporaryDirectory() as target:
        store_catalogue(songs, Path(target))
        seconds = time.monotonic() - start
    return {"seconds": seconds, "loaded": loaded, "peak_mb": peak_mb(), "songs": len(songs),
            "pairs": sum(len(song["similars"]) for song in songs.values()),
            "tags": sum(len(song["tags"]) for song in songs.values())}


def peak_mb() -> float:
    """The most memory this process ever had."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def print_cost(what: str, cost: dict[str, Any]) -> None:
    print(f"{what}: {cost['seconds']:.1f} s, {cost['peak_mb']:,.0f} MB at most; {cost['songs']:,} songs, "
          f"{cost['pairs']:,} pairs, {cost['tags']:,} tags", flush=True)


main()

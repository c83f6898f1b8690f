"""What was compared by sound is compared once: who is compared when songs come, change and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from simsong.audio.soundprint import soundprint
from simsong.catalogue.duplicates import comparisons, duplicates
from simsong.config_loader import load
from simsong.parts.compute import Done
from simsong.parts.stages import MFCC, RunContext
from storage.store import Store
from tasks.compare import compare
from tests.storage.test_export_duplicates import melody

SHARD = 4


class Songs:
    """A store of songs by the melody that they are."""

    def __init__(self, root: Path) -> None:
        self.url, self.melodies = str(root), dict[str, int]()
        with Store.writing(self.url):
            pass

    def listed(self, songs: dict[str, int], named: dict[str, str] | None = None) -> None:
        """In the catalogue are these songs, some of which bear the names of others; parts are as they are."""
        with Store.writing(self.url) as store:
            store.write("tracks", [[{"track_id": i, "artist": "a", "title": i, "source": "table",
                                     "shard": int(i[1:]) // SHARD, "duplicate_of": (named or {}).get(i)}
                                    for i in sorted(songs)]], str(songs))

    def catalogued(self, songs: dict[str, int], named: dict[str, str] | None = None) -> None:
        """These songs, listed and printed."""
        self.listed(songs, named)
        ids = sorted(songs)
        with Store.writing(self.url) as store:
            for shard in {int(i[1:]) // SHARD for i in ids}:
                own = [i for i in ids if int(i[1:]) // SHARD == shard]
                sounds = {i: melody(songs[i], 10.0) for i in own}
                store.write("soundprints", [[{"track_id": i, "segment": 0, "start_s": 0.0,
                                              "embedding": soundprint(sounds[i])} for i in own]],
                            str(songs), shard=shard)
                store.write("audio", [[{"track_id": i, "file": i, "duration_s": 10.0, "sha256": i}
                                       for i in own]], str(songs), shard=shard)
                vectors = {i: np.random.default_rng(songs[i]).standard_normal(8) for i in own}
                store.write("track_embeddings", [[{"track_id": i, "embedding": vectors[i].astype(np.float32)}
                                                   for i in own]], str(songs), shard=shard, partition=MFCC)
                store.write("outcomes", [[{"track_id": i, "status": "ok", "input": f"made of {songs[i]}",
                                           "attempts": 1} for i in own]],
                            str(songs), shard=shard, partition="soundprints")

    def run(self) -> Done:
        config = load(None, {"store": self.url}, {})
        with Store.writing(self.url) as store:
            assert store.generation is not None
            return compare.fn(run=RunContext(config=config, generation=store.generation), after=[])

    @property
    def store(self) -> Store:
        return Store.open(self.url)

    def marks(self) -> dict[str, str]:
        rows = duplicates(self.store).to_pylist()
        return {row["track_id"]: row["duplicate_of"] for row in rows}


def songs(count: int, **others: int) -> dict[str, int]:
    return {f"S{n:02}": n for n in range(count)} | others


@pytest.fixture
def library(tmp_path: Path) -> Songs:
    out = Songs(tmp_path / "store")
    out.catalogued(songs(12, S12=3), {"S05": "S04"})
    assert out.run().parts_computed == 1
    return out


def test_pairs_are_found_by_sound_and_parted_by_it(library: Songs) -> None:
    assert library.marks() == {"S12": "S03"}, "S05 has the names of S04, and sounds otherwise"
    rows = library.store.read("comparisons").to_pylist()
    pairs = {(row["track_id"], row["other_id"]): row["same"] for row in rows if row["input"] is None}
    assert pairs == {("S03", "S12"): True, ("S04", "S05"): False}
    assert library.run().parts_computed == 0


def test_what_was_compared_is_not_compared_again(library: Songs) -> None:
    """What the table says of songs that are as they were stands, though their sound says otherwise."""
    rows = library.store.read("comparisons").to_pylist()
    for row in rows:
        row["same"] = None if row["other_id"] == "S12" and row["track_id"] == "S03" else row["same"]
    rows.append({"track_id": "S06", "other_id": "S07", "input": None, "same": True})
    rows.sort(key=lambda row: (row["track_id"], row["other_id"]))
    footer, = library.store.footers("comparisons")
    with Store.writing(library.url) as store:
        store.write("comparisons", [rows], footer.identity, facts=footer.facts)
    assert library.marks() == {"S07": "S06"}
    library.catalogued(songs(12, S12=3, S13=7), {"S05": "S04"})
    assert library.marks() == {"S07": "S06", "S13": "S06"}, "the new one alone is compared: it is S07's twin"
    assert library.run().parts_computed == 1
    assert library.marks() == {"S07": "S06", "S13": "S06"}


def test_a_song_of_another_sound_is_compared_again(library: Songs) -> None:
    library.catalogued(songs(12, S12=5), {"S05": "S04"})
    assert library.marks() == {"S12": "S05"}
    library.catalogued(songs(12, S12=99, S05=4), {"S05": "S04"})
    assert library.marks() == {"S05": "S04"}, "now it sounds as it is called"


def test_songs_that_leave_take_their_comparisons_along(library: Songs) -> None:
    left = songs(12, S12=3)
    del left["S03"]
    library.listed(left, {"S05": "S04"})
    assert library.marks() == {}
    rows, _ = comparisons(library.store)
    assert "S03" not in rows["track_id"].to_pylist()
    library.run()
    library.listed(songs(12, S12=3), {"S05": "S04"})
    assert library.marks() == {"S12": "S03"}, "it is back"


def test_a_damaged_table_is_found_anew(library: Songs) -> None:
    part = Path(library.url) / "tables/comparisons/00000.parquet"
    part.write_bytes(part.read_bytes()[:-50])
    assert library.marks() == {"S12": "S03"}
    assert library.run().parts_computed == 1
    assert library.store.read("comparisons").filter(pc.field("same")).num_rows == 1

"""Traits and tags of a small library, stage by stage: once a song, with reasons, asked by SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsong.audio.decode import decode, files_decoded
from simsong.audio.traits import traits_of
from simsong.care.reopen import Chosen, reopen
from simsong.config import Config
from simsong.parts.compute import Done
from simsong.parts.stages import RunContext, features_label, tags_label
from simsong.pretrained.tags import INSTRUMENTAL, TAGS, VOICES
from storage.store import Store
from storage.views import connect
from tasks.features import features
from tasks.tag_scores import tag_scores
from tasks.traits import traits
from tests.checkpoints import install_musicnn
from tests.small_world import VERSE, configured, refresh, songs_computed, standing, write_song

SONGS = ("ann", "bob", "cat")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install_musicnn()
    for name in SONGS:
        write_song(tmp_path / "music", name, 6.0, lyrics=VERSE if name == "ann" else None)
    return configured(tmp_path / "music", tmp_path / "store", pretrained={"patches": 2})


def done_by(config: Config, *stages: Any) -> list[Done]:
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        given = Done(stage="ingest", shards=tuple(store.shards("audio")))
        return [stage.fn(done=given, run=run) for stage in stages]


def test_traits_are_those_of_the_sound_and_are_measured_once(config: Config, tmp_path: Path) -> None:
    refresh(config)
    store = Store.open(config.store)
    artists = {row["track_id"]: row["artist"] for row in store.read("tracks").to_pylist()}
    rows = {artists[row["track_id"]]: row for row in store.read("traits").to_pylist()}
    assert set(rows) == set(SONGS)
    expected = traits_of(decode(next((tmp_path / "music" / "bob").glob("*.wav"))))
    assert rows["bob"]["loudness_lufs"] == pytest.approx(expected.loudness_lufs)
    assert (rows["bob"]["key"], rows["bob"]["energy"]) == (expected.key, pytest.approx(expected.energy))

    before, decoded = standing(store), files_decoded()
    write_song(tmp_path / "music", "dan", seconds=6.0, lyrics=None)
    refresh(config)
    assert {song for stage, song in songs_computed(store, before) if stage == "traits"} == \
        {row["track_id"] for row in store.read("tracks").to_pylist() if row["artist"] == "dan"}
    assert files_decoded() - decoded == 1


def test_a_song_that_is_gone_has_a_reason_and_the_others_their_traits(config: Config, tmp_path: Path) -> None:
    refresh(config)
    store = Store.open(config.store)
    for shard in store.shards("traits"):
        store_delete(config, shard)
    next((tmp_path / "music" / "cat").glob("*.wav")).unlink()
    (work,) = done_by(config, traits)
    assert (work.ok, work.failed) == (2, {"missing_file": 1})


def store_delete(config: Config, shard: int) -> None:
    """As in a store of a version that had no traits."""
    with Store.writing(config.store) as store:
        store.delete_part("traits", shard)
        store.delete_part("outcomes", shard, "traits")


def test_tags_are_made_of_features_and_not_again(config: Config) -> None:
    refresh(config)
    heard, tagged = done_by(config, features, tag_scores)
    assert (heard.ok, tagged.ok, tagged.parts_computed) == (3, 3, 2)
    assert done_by(config, tag_scores)[0].parts_computed == 0
    store, label = Store.open(config.store), features_label(config)
    assert label == tags_label(config) and store.read("tag_scores", partition=label).num_rows == 3


def test_a_song_that_is_heard_later_is_tagged_then(config: Config, tmp_path: Path) -> None:
    refresh(config)
    file = next((tmp_path / "music" / "cat").glob("*.wav"))
    content = file.read_bytes()
    file.unlink()
    heard, tagged = done_by(config, features, tag_scores)
    assert (heard.ok, tagged.ok, tagged.failed) == (2, 2, {})
    file.write_bytes(content)
    with Store.writing(config.store) as store:
        reopen(store, Chosen("features"))
    heard, tagged = done_by(config, features, tag_scores)
    assert (heard.ok, tagged.ok) == (3, 3)


def test_views_join_traits_tags_and_lyrics(config: Config) -> None:
    refresh(config)
    done_by(config, features, tag_scores)
    store, label = Store.open(config.store), str(features_label(config))

    def asked(statement: str) -> list[dict[str, Any]]:
        rows = connect(store).execute(statement)
        return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]

    tags = asked("SELECT track_id, list(name ORDER BY name) AS names, list(score ORDER BY name) AS scores "
                 "FROM heard_tags GROUP BY 1")
    scores = {row["track_id"]: np.array(row["embedding"])
              for row in store.read("tag_scores", partition=label).to_pylist()}
    order = np.argsort(TAGS["msd-musicnn"])
    assert [row["names"] for row in tags] == [sorted(TAGS["msd-musicnn"])] * 3
    for row in tags:
        np.testing.assert_allclose(row["scores"], scores[row["track_id"]][order], rtol=1e-6)
    rows = asked("SELECT traits.*, t.artist FROM traits JOIN tracks t USING (track_id)")
    for row in rows:
        score = dict(zip(TAGS["msd-musicnn"], scores[row["track_id"]].tolist(), strict=True))
        sung = sum(weight * score[name] for name, weight in VOICES.items())
        share = score[INSTRUMENTAL] / (score[INSTRUMENTAL] + sung)
        assert row["instrumental"] == pytest.approx(share, rel=1e-5)
    by_sound = {row["artist"]: "sung" if row["instrumental"] < 0.5 else "instrumental" for row in rows}
    assert {row["artist"]: row["voice"] for row in rows} == by_sound | {"ann": "sung"}


def test_views_are_there_before_any_traits(config: Config) -> None:
    """A store of a version before, or without a network."""
    refresh(config)
    store = Store.open(config.store)
    for shard in store.shards("traits"):
        store_delete(config, shard)
    for view in ("traits", "heard_tags"):
        assert connect(store).execute(f"FROM {view}").fetchall() == []

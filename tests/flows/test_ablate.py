"""Studies: each variant and seed in a store of its own, nothing twice; the store studied stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simsong.errors import ConfigError, NothingDone, StoreError, StudyError
from simsong.studies.study import plan_study
from storage.side import root_of, share
from storage.store import Store
from tests.cli.test_cli import simsong
from tests.small_world import SETTINGS, configured, refresh, write_song

ARTISTS = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jon")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs each of ten artists, refreshed; nothing is trained."""
    root = tmp_path_factory.mktemp("ablate")
    for number, name in enumerate(ARTISTS):
        other = write_song(root / "music", name, seed=2 * number)
        other.rename(other.with_name("again.wav"))
        write_song(root / "music", name, seed=2 * number + 1)
    refresh(configured(root / "music", root / "store", **settings(root)))
    return root


def settings(root: Path) -> dict[str, Any]:
    return {**SETTINGS, "catalogue": {"shard_songs": 12}, "evaluation": {"bootstrap": 100},
            "training": {"steps": 2, "batch": 4, "validation": 0.0}}


def flags(root: Path) -> dict[str, Any]:
    return {"store": str(root / "store"), **settings(root)}


def untouched(root: Path) -> dict[str, tuple[int, int]]:
    """Every file of the store but those of studies and runs."""
    apart = ("studies", "runs", "lease", "lock", "results", "reports", "tmp")
    store = root / "store"
    return {path.relative_to(store).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in store.rglob("*")
            if path.is_file() and path.relative_to(store).parts[0] not in apart}


def stamps(root: Path, name: str) -> dict[str, int]:
    """When each run of a study was finished, and each of its models made."""
    folder = root / "store/studies" / name
    files = [*folder.rglob("run.json"), *folder.rglob("model.safetensors")]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def studied(root: Path, seeds: int) -> dict[str, Any]:
    from flows.ablation import ablate

    over = {"training.alpha": ["0.5", "0.9"]}
    return ablate(None, flags(root), over=over, seeds=seeds, losses=["ns", "wns"], name="alpha")


@pytest.fixture(scope="module")
def alpha(root: Path, prefect: None) -> dict[str, Any]:
    """The study of two alphas and one seed, and that it left the store as it was."""
    before, study = untouched(root), studied(root, 1)
    assert untouched(root) == before
    return study


def test_each_run_leaves_its_models_and_figures(root: Path, alpha: dict[str, Any]) -> None:
    folder = root / "store/studies/alpha"
    runs = sorted(path.name for path in folder.iterdir())
    assert runs == ["training.alpha=0.5-0", "training.alpha=0.9-0"]
    for run in runs:
        there = {path.name for path in (folder / run).iterdir()} - {"lock"}
        assert there == {"identity", "models", "reports", "run.json"}
    # NS knows nothing of alpha: the second variant took the first one's
    assert len({path.stat().st_ino for path in folder.glob("*/models/ns/*/model.safetensors")}) == 1
    assert len({path.stat().st_ino for path in folder.glob("*/models/wns/*/model.safetensors")}) == 2


def test_what_is_finished_is_not_done_again(root: Path, alpha: dict[str, Any]) -> None:
    (root / "store/studies/alpha/training.alpha=0.5-0/run.json").unlink()   # as if killed before its end
    first = stamps(root, "alpha")
    again = studied(root, 1)
    assert _without_seconds(again) == _without_seconds(alpha)
    assert stamps(root, "alpha").items() > first.items(), "no model was trained again"
    first = stamps(root, "alpha")
    assert studied(root, 1) == again and stamps(root, "alpha") == first


def test_further_seeds_are_trained_alone(root: Path, alpha: dict[str, Any]) -> None:
    first, more = stamps(root, "alpha"), studied(root, 2)
    assert {path: at for path, at in stamps(root, "alpha").items() if path in first} == first
    by_seed = [[variant["methods"]["wns"]["recall@10"]["by_seed"] for variant in study["variants"]]
               for study in (alpha, more)]
    assert [[cell[0]] for cell in by_seed[1]] == by_seed[0] and len(by_seed[1][0]) == 2
    _check(root, more)


def _check(root: Path, study: dict[str, Any]) -> None:
    """The study of two alphas and two seeds."""
    assert study == json.loads((root / "store/reports/studies/alpha.json").read_text())
    assert (study["over"], study["seeds"]) == ({"training.alpha": [0.5, 0.9]}, [0, 1])
    low, high = (variant["label"] for variant in study["variants"])
    assert (low, high) == ("training.alpha=0.5", "training.alpha=0.9")
    assert {"mfcc", "random", "untrained", "ns", "wns"} <= set(study["variants"][0]["methods"])
    assert study["protocol"]["ground_truth"] == "same artist" and study["protocol"]["queries"] == 20
    cells = [variant["methods"]["ns"]["recall@10"] for variant in study["variants"]]
    assert cells[0] == cells[1] and cells[0]["low"] < cells[0]["high"]
    ways = {(row["a"], row["b"]) for row in study["differences"]}
    assert {(f"{high}/wns", f"{low}/wns"), (f"{low}/wns", f"{low}/ns")} <= ways
    assert set(study["sd_log_w"]) == {f"{low}/wns", f"{high}/wns"}
    assert study["sd_log_w"][f"{high}/wns"] > study["sd_log_w"][f"{low}/wns"] > 0


def _without_seconds(study: dict[str, Any]) -> dict[str, Any]:
    return {**study, "variants": [{**variant, "seconds": 0} for variant in study["variants"]]}


@pytest.mark.usefixtures("prefect")
def test_what_lies_upstream_is_cut_anew_and_never_fetched(root: Path) -> None:
    from flows.ablation import ablate

    before = untouched(root)
    for file in (root / "music").rglob("*.wav"):
        file.rename(file.with_suffix(".gone"))          # whoever looks for it fails
    try:
        with pytest.raises(StudyError, match=r"^trim\.mode=fixed: trim is to be done again"):
            ablate(None, flags(root), over={"trim.mode": ["fixed"]}, seeds=1, losses=["ns"])
    finally:
        for file in (root / "music").rglob("*.gone"):
            file.rename(file.with_suffix(".wav"))
    over = {"trim.mode": ["none", "fixed"], "trim.intro_s": ["0.5"]}
    study = ablate(None, flags(root), over={**over, "trim.outro_s": ["0.5"]}, seeds=1, losses=["ns"],
                   name="trimming")
    assert untouched(root) == before
    none, fixed = study["variants"]
    assert fixed["settings"] == {"trim.mode": "fixed", "trim.intro_s": 0.5, "trim.outro_s": 0.5}
    assert none["methods"]["mfcc"] != fixed["methods"]["mfcc"]
    assert none["methods"]["random"]["recall@10"]["value"] == fixed["methods"]["random"]["recall@10"]["value"]


@pytest.mark.usefixtures("prefect")
def test_another_catalogue_is_studied_anew(root: Path, tmp_path: Path) -> None:
    import shutil

    from flows.ablation import ablate

    shutil.copytree(root / "music", tmp_path / "music")
    refresh(configured(tmp_path / "music", tmp_path / "store", **settings(tmp_path)))
    ablate(None, flags(tmp_path), seeds=1, losses=["ns"])
    first = stamps(tmp_path, "seeds")
    assert set(first) == {"as-configured-0/run.json", *(path for path in first if "models" in path)}
    write_song(tmp_path / "music", "new")
    refresh(configured(tmp_path / "music", tmp_path / "store", **settings(tmp_path)))
    ablate(None, flags(tmp_path), seeds=1, losses=["ns"])
    after = stamps(tmp_path, "seeds")
    assert after["as-configured-0/run.json"] > first["as-configured-0/run.json"]
    assert len([path for path in after if "/ns/" in path]) == 2      # one new song is enough: it is a study


@pytest.mark.parametrize(("over", "more", "said"), [
    ({"trim.mod": ["none"]}, {}, "unknown key trim.mod; did you mean trim.mode?"),
    ({"trim.mode": ["none", "loud"]}, {}, "trim.mode = 'loud'"),
    ({"trim": ["none"]}, {}, "--over trim: "),
    ({"training.priors": ["1"]}, {}, "is a section, not a value"),
    ({"fetch.threshold": ["5"]}, {}, "keys of trim, segments, lyric_model, model, head, training"),
    ({"training.seed": ["1", "2"]}, {}, "--seeds N varies it"),
    ({"training.fold": ["1/2", "2/2"]}, {}, "--folds N goes through them"),
    ({"training.alpha": ["0.5", "0.50"]}, {}, "are the same"),
    ({"training.alpha": ["0.5", "3"]}, {}, "alpha (3.0) must be below beta"),
    ({}, {"name": "../x"}, "it is part of a path"),
])
def test_a_mistaken_study_is_told_before_it_begins(over: dict[str, list[str]], more: dict[str, Any],
                                                   said: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan_study(None, {}, over, 2, **more)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_values_are_those_of_the_configuration() -> None:
    study = plan_study(None, {}, {"training.priors.artist": ["0", "1.5"], "model.preset": ["small"]}, 2)
    assert study.over == {"training.priors.artist": [0.0, 1.5], "model.preset": ["small"]}
    assert [variant.values for variant in study.variants] == [
        {"training.priors.artist": 0.0, "model.preset": "small"},
        {"training.priors.artist": 1.5, "model.preset": "small"}]
    assert len({variant.folder for variant in study.variants}) == 2
    assert all("/" not in variant.folder and " " not in variant.folder for variant in study.variants)


def test_a_fold_is_part_of_no_identity_where_there_is_none() -> None:
    plain, fold = (plan_study(None, {}, {}, 1, folds=folds).variants[0] for folds in (None, 2))
    assert "fold" not in plain.flags["training"] and fold.flags["training"]["fold"] == "1/2"
    assert plain.row == fold.row and plain.folder != fold.folder


@pytest.mark.usefixtures("prefect")
def test_folds_are_measured_together(tmp_path: Path) -> None:
    """All artists ask, each of models that did not hear it, in one row."""
    from flows.ablation import ablate

    names = [f"{name}{half}" for name in ARTISTS for half in "xy"]
    for number, name in enumerate(names):
        other = write_song(tmp_path / "music", name, seed=2 * number)
        other.rename(other.with_name("again.wav"))
        write_song(tmp_path / "music", name, seed=2 * number + 1)
    refresh(configured(tmp_path / "music", tmp_path / "store", **settings(tmp_path)))
    study = ablate(None, flags(tmp_path), seeds=2, losses=["ns"], folds=2)
    assert [row["label"] for row in study["variants"]] == ["as configured"]
    assert study["protocol"]["queries"] == 40 and study["protocol"]["query_artists"] == 20
    assert not study["protocol"]["transductive"] and study["name"] == "folds"
    methods = study["variants"][0]["methods"]
    assert methods["published"] == methods["ns"] and len(methods["ns"]["recall@10"]["by_seed"]) == 2
    of_folds = [json.loads((folder / "reports/evaluation.json").read_text())["protocol"]
                for folder in (tmp_path / "store/studies/folds").iterdir()]
    assert [(protocol["queries"], protocol["trained"], protocol["transductive"])
            for protocol in of_folds] == [
        (20, True, False)] * 4


@pytest.mark.usefixtures("prefect")
def test_a_fold_with_too_few_that_ask_is_refused(root: Path) -> None:
    """Else all would ask, those too that were trained on."""
    from flows.ablation import ablate

    with pytest.raises(StudyError, match="its artists are too few to ask"):
        ablate(None, flags(root), seeds=1, losses=["ns"], folds=2, name="few")


@pytest.mark.parametrize(("words", "said"), [
    (("--over", "trim.mode"), "it is to be KEY=V1,V2"),
    (("--over", "trim.mode=none,"), "it is to be KEY=V1,V2"),
    (("--over", "trim.mode=none,loud"), "trim.mode = 'loud'"),
    (("--losses", "ns,nns"), "--losses ns,nns: some of ns, wns, wns_shuffled"),
    (("--store", "nowhere"), "there is no store there"),
])
def test_mistakes_are_one_line_and_start_nothing(root: Path, tmp_path: Path, words: tuple[str, ...],
                                                 said: str) -> None:
    process = simsong("ablate", "--store", root / "store", *words, code=1, cwd=tmp_path)
    assert len(process.stderr.splitlines()) == 1 and said in process.stderr, process.stderr


@pytest.mark.usefixtures("prefect")
def test_without_audio_there_is_nothing_to_study(tmp_path: Path) -> None:
    from flows.ablation import ablate

    with Store.writing(str(tmp_path / "store")):
        pass
    with pytest.raises(NothingDone, match="there is no audio to learn from"):
        ablate(None, flags(tmp_path), seeds=1)


def test_files_are_shared_and_neither_store_changes_the_other_s(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path / "a")) as a:
        a.put("reports/x", b"one")
        a.put("models/y", b"two")
        share(root_of(a), tmp_path / "b", lambda key: key in ("reports/x", "store.json"))
        assert (tmp_path / "a/reports/x").stat().st_ino == (tmp_path / "b/reports/x").stat().st_ino
        assert not (tmp_path / "b/models").exists()
        with Store.writing(str(tmp_path / "b")) as b:
            b.put("reports/x", b"other")
            share(root_of(a), tmp_path / "b", lambda key: True)
            assert b.backend.get("reports/x").read() == b"other"        # what is there stays
            b.delete("models/y")
        assert a.backend.get("reports/x").read() == b"one" and a.backend.get("models/y").read() == b"two"


def test_object_stores_are_refused() -> None:
    with Store.writing("memory://") as store, pytest.raises(StoreError, match="object stores have no links"):
        root_of(store)

"""Where the trainings of a study run: each in a store of its own beside the one that is studied, which stays
as it is.

`<store>/studies/<name>/<variant>/` shares the store's files, and holds what all seeds of a variant have in
common; `<variant>-<seed>/` shares its files, and holds the models and figures of one seed. Only the latter
stays, without what is large.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simsong.config import Config
from simsong.datasets.evaluation import EVALUATION_VERSION as MEASURED_BY
from simsong.datasets.training import FEATURES
from simsong.errors import NothingDone, StudyError
from simsong.evaluation.figures import PUBLISHED
from simsong.evaluation.study import RunFigures, compare
from simsong.parts.stages import (
    MFCC,
    STAGES,
    TIMBRE,
    TRAITS,
    config_values,
    features_label,
    has_heads,
    settled_model,
)
from simsong.registry.models import CARD, is_made, promoted
from simsong.registry.planned import VERSION as TRAINED_BY
from simsong.registry.planned import plan_model
from simsong.registry.published import measured_as
from simsong.registry.trained_on import folder
from simsong.studies.study import STUDIED, Study, Variant
from storage.backend import Local
from storage.catalogue import Catalogue
from storage.identity import digest
from storage.reports import CHOICE, EVALUATION, QUERIES
from storage.side import remove, root_of, share
from storage.store import Store

VERSION = 2
STUDIES = "studies"
RUN = "run.json"                    # in a seed's folder, when it is finished
METRIC = "recall@10"
_TABLES = ("tracks", "similars", "artist_similars", "genres", "tags", "words", "timbre")
_LARGE = ("tables", "audio", "work", "results", "exports", "tmp", "lease", "runs", "store.json")


# Identities: what a finished run is known again by

def base_identity(store: Store) -> str:
    """Of all that a study reads of the store it studies. Raises: NothingDone where nothing is fetched yet."""
    catalogue = Catalogue(store)
    if not catalogue.parts("audio"):
        raise NothingDone(f"{store.backend.url}: there is no audio to learn from; `simsong refresh` gets it")
    tables = [[footer.columns for footer in store.footers(table)] for table in _TABLES]
    digests = [catalogue.rows_digests(table, columns)
               for table, columns in (("audio", ("sha256",)), ("lyrics", ("kind", "text")))]
    return digest(catalogue.shards, tables, digests)


def variant_identity(base: str, config: Config) -> str:
    """Of what all seeds have in common."""
    settings = config_values(config, (*STUDIED, "evaluation", "fetch.max_duration_s"))
    settings["model"] = settled_model(config).model_dump(mode="json")
    if has_heads(config):
        settings["features"] = features_label(config)
    else:
        del settings["head"]
    for key in ("seed", "losses", "checkpoint_s", "retrain_at"):
        del settings["training"][key]
    for key in ("fold", "minutes"):
        if settings["training"][key] is None:
            del settings["training"][key]
    stages = {stage.name: stage.version for stage in STAGES.values()
              if not stage.observes and stage.name not in TRAITS}
    return digest(VERSION, TRAINED_BY, MEASURED_BY, stages, base, settings)


def run_identity(variant: str, config: Config) -> str:
    return digest(variant, config.training.seed, sorted(config.training.losses))


# Folders

class Place:
    """Where a study lies."""

    def __init__(self, store: Store, study: Study) -> None:
        self.base, self.study = root_of(store), study
        self.root = self.base / STUDIES / study.name

    def shared(self, variant: Variant) -> Path:
        return self.root / variant.folder

    def of(self, variant: Variant, seed: int) -> Path:
        return self.root / f"{variant.folder}-{seed}"

    def finished(self, variant: Variant, seed: int, identity: str) -> dict[str, Any] | None:
        """What `close_seed` set down of a run of that identity; None where there is none."""
        try:
            facts = json.loads((self.of(variant, seed) / RUN).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return facts if facts["identity"] == identity else None

    def open_shared(self, variant: Variant, identity: str) -> Path:
        """The variant's store, with the files of the base; one of another identity begins anew."""
        folder = self.shared(variant)
        _begin(folder, identity)
        share(self.base, folder, _of_base)
        return folder

    def open_seed(self, variant: Variant, seed: int, identity: str) -> Path:
        """The seed's store, with the files of the variant's, and models that the study has trained already;
        one of another identity begins anew, but for its models."""
        folder, shared = self.of(variant, seed), self.shared(variant)
        _begin(folder, identity)
        share(shared, folder, _of_variant)
        work, features = folder / "work", shared / "work" / FEATURES
        features.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        if not (work / FEATURES).exists():
            remove(work / FEATURES)             # a link that leads nowhere
            (work / FEATURES).symlink_to(features, target_is_directory=True)
        return folder

    def lend_models(self, store: Store, config: Config) -> None:
        """Link what `store` would train, where another run of the study has it: α says nothing to NS."""
        for name in config.training.losses:
            version = plan_model(store, config, name).version
            at = f"models/{name}/{version}"
            for other in sorted(self.root.glob(f"*/{at}")):
                lender = other.parents[2]
                if lender != root_of(store) and is_made(Store(Local(lender)), name, version):
                    share(lender, root_of(store), lambda key, at=at: key.startswith(f"{at}/"))

    def close_seed(self, variant: Variant, seed: int, identity: str, seconds: float, config: Config) -> None:
        """Set down that a run is finished; leave its models and figures."""
        folder = self.of(variant, seed)
        store = Store.open(str(folder))
        evaluation = store.get_json(EVALUATION)
        assert evaluation is not None
        facts = {"identity": identity, "label": variant.label, "seed": seed, "seconds": seconds,
                 "published": measured_as(config, (store.get_json(CHOICE) or {}).get("methods") or ()),
                 "sd_log_w": _spreads(store, config), "protocol": evaluation["protocol"]}
        part = folder / f"{RUN}.part"
        part.write_text(json.dumps(facts, indent=1), "utf-8")
        part.replace(folder / RUN)
        self.tidy(variant, seed)

    def queries(self, variant: Variant, seed: int) -> pa.Table:
        """Every query's figures of a finished run. What `choose` found best is beside it as PUBLISHED, joins
        of several, which may be others in the next run, under that name alone."""
        folder = self.of(variant, seed)
        table = pq.read_table(folder / QUERIES)
        table = table.set_column(0, "method", table["method"].cast(pa.string()))
        best = json.loads((folder / RUN).read_text("utf-8"))["published"]
        published = table.filter(pc.field("method") == best)
        published = published.set_column(0, "method", pa.array([PUBLISHED] * len(published), pa.string()))
        single = [name for name in table["method"].unique().to_pylist() if "+" not in name]
        return pa.concat_tables([table.filter(pc.field("method").isin(single)), published])

    def tidy(self, variant: Variant, seed: int) -> None:
        """Remove what is large, and of no use to a finished run."""
        for name in _LARGE:
            remove(self.of(variant, seed) / name)

    def close_shared(self, variant: Variant) -> None:
        remove(self.shared(variant))


def _begin(folder: Path, identity: str) -> None:
    mark = folder / "identity"
    if mark.exists() and mark.read_text("utf-8") != identity:
        for entry in folder.iterdir():
            if entry.name != "models":
                remove(entry)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(identity, "utf-8")


def _of_base(key: str) -> bool:
    """What is neither a model's nor about all songs at once."""
    top, _, rest = key.partition("/")
    if top == "audio" or key == "store.json":
        return True
    if top != "tables":
        return False
    table, _, rest = rest.partition("/")
    partition = rest.partition("/")[0].partition("=")[2]
    if table in ("segment_embeddings", "track_embeddings"):
        return partition in (MFCC, TIMBRE)
    if table == "outcomes":
        stage, _, label = partition.partition("-")
        return stage not in ("train", "export", "evaluate", "report") and (stage != "embed" or label == MFCC)
    return True


def _of_variant(key: str) -> bool:
    return key.partition("/")[0] in ("tables", "audio", "models", "store.json")


def _spreads(store: Store, config: Config) -> dict[str, float]:
    """sd(log w) of each model that weighed its negatives."""
    out: dict[str, float] = {}
    for name in config.training.losses:
        label = promoted(store, name)
        card = (store.get_json(f"{folder(label)}/{CARD}") if label else None) or {}
        if (weighting := card.get("weighting")) is not None:
            out[name] = weighting["sd_log_w"]
    return out


# What came of it

def result_of(place: Place, identities: Mapping[tuple[str, int], str], config: Config) -> dict[str, Any]:
    """Compare all runs, which are finished: what stands in `reports/studies/<name>.json`.
    Raises: StudyError where the artists of a fold are too few to ask."""
    study = place.study
    by_seed: dict[tuple[str, int], dict[str, Any]] = {}
    for variant, seed in product(study.variants, study.seeds):
        finished = place.finished(variant, seed, identities[variant.label, seed])
        assert finished is not None, (variant.label, seed)
        if variant.label != variant.row and finished["protocol"]["transductive"]:
            raise StudyError(f"{variant.label}: its artists are too few to ask; --folds is to be smaller")
        by_seed[variant.label, seed] = finished
    rows: dict[str, list[Variant]] = {}
    for variant in study.variants:
        rows.setdefault(variant.row, []).append(variant)
    runs = [RunFigures(row, seed, queries_of(place, variants, seed))
            for row, variants in rows.items() for seed in study.seeds]
    protocol = by_seed[study.variants[0].label, study.seeds[0]]["protocol"]
    pairs = compare(runs, truth=protocol["ground_truth"], common=True, resamples=config.evaluation.bootstrap,
                    seed=config.evaluation.seed)
    by_row = {row: [by_seed[variant.label, seed] for variant in variants for seed in study.seeds]
              for row, variants in rows.items()}
    for cells, variants in zip(pairs["variants"], rows.values(), strict=True):
        of = by_row[cells["label"]]
        cells |= {"settings": variants[0].values, "seconds": round(sum(run["seconds"] for run in of), 1)}
    spreads = {f"{row}/{name}": sum(run["sd_log_w"][name] for run in of) / len(of)
               for row, of in by_row.items() for name in of[0]["sd_log_w"]}
    return {"name": study.name, "over": study.over, "metric": METRIC, **pairs,
            "protocol": {**protocol, **pairs["protocol"]}, "sd_log_w": spreads}


def queries_of(place: Place, variants: Sequence[Variant], seed: int) -> pa.Table:
    """Every query's figures of a seed, of all folds; with PUBLISHED, which may be another method in each."""
    tables = [place.queries(variant, seed) for variant in variants]
    shared = set.intersection(*(set(table["method"].to_pylist()) for table in tables))
    return pa.concat_tables([table.filter(pc.field("method").isin(sorted(shared))) for table in tables])

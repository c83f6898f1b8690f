"""Studies: variants of the configuration, each trained with several seeds, and what their paired differences
allow to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simsong.evaluation.report.recall import bar, extent
from simsong.evaluation.report.verdicts import Verdict, verdict
from simsong.evaluation.report.words import label

Study = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """A difference of a study: of a variant's method over a variant's method; `by_seed` are those of each
    seed alone."""

    variant: str
    other: str
    verdict: Verdict
    by_seed: tuple[float, ...] = ()

    @property
    def pair(self) -> str:
        a, b = label(self.verdict.a), label(self.verdict.b)
        if self.variant == self.other:
            return f"{a} − {b}"
        return f"{self.variant} − {self.other}" if a == b else f"{a}, {self.variant} − {b}, {self.other}"


def shown_studies(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """Each study as its section shows it."""
    return [_shown(study) for study in studies]


def comparisons(study: Study) -> list[Compared]:
    """All paired differences of the study's metric."""
    out = []
    for row in study["differences"]:
        cell = row["metrics"].get(study["metric"])
        if cell is None or cell["value"] is None:
            continue
        (variant, _, a), (other, _, b) = row["a"].rpartition("/"), row["b"].rpartition("/")
        protocol = study["protocol"]
        conclusion = verdict(a, b, cell, protocol["queries"], protocol.get("claim", True))
        out.append(Compared(variant, other, conclusion, tuple(cell.get("by_seed") or ())))
    return out


def between(study: Study, variant: str, a: str, b: str) -> Verdict | None:
    """Of method a over b within a variant, whichever way round the study has it."""
    for comparison in comparisons(study):
        if comparison.variant == comparison.other == variant:
            if (comparison.verdict.a, comparison.verdict.b) == (a, b):
                return comparison.verdict
            if (comparison.verdict.a, comparison.verdict.b) == (b, a):
                return comparison.verdict.turned()
    return None


def with_both(study: Study) -> list[str]:
    """The variants in which WNS and NS were compared."""
    labels = [variant["label"] for variant in study["variants"]]
    return [name for name in labels if between(study, name, "wns", "ns")]


def _shown(study: Study) -> dict[str, Any]:
    metric = study["metric"]
    spread = study.get("sd_log_w") or {}
    cells = [cell for variant in study["variants"] for figures in variant["methods"].values()
             if (cell := figures.get(metric)) and cell["value"] is not None]
    widest = 1.08 * max((cell["high"] or cell["value"] for cell in cells), default=0.0) or 1.0
    variants = []
    for variant in study["variants"]:
        rows = [bar(method, cell, widest) | {"sd_log_w": spread.get(f"{variant['label']}/{method}")}
                for method, figures in variant["methods"].items()
                if (cell := figures.get(metric)) and cell["value"] is not None]
        variants.append({**variant, "rows": rows})
    every = comparisons(study)
    within = [c for c in every if c.variant == c.other]
    groups = [("Which variant is better", [c for c in every if c.variant != c.other])]
    for variant in variants:
        suffix = f": {variant['label']}" if len(variants) > 1 else ""
        own = [c for c in within if c.variant == variant["label"]]
        groups.append((f"Which method is better{suffix}", own))
    return {**study, "variants": variants, "metrics": _metrics(study),
            "forests": [(name, rows, *_extent(rows)) for name, rows in groups if rows]}


def _extent(rows: Sequence[Compared]) -> tuple[float, float]:
    return extent([row.verdict for row in rows], [value for row in rows for value in row.by_seed])


def _metrics(study: Study) -> list[str]:
    """All that the variants' methods were measured by, the study's own first."""
    names = dict.fromkeys([study["metric"]])
    for variant in study["variants"]:
        for figures in variant["methods"].values():
            names |= dict.fromkeys(figures)
    return list(names)

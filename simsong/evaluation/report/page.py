"""The page, put together."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simsong.evaluation.report import words
from simsong.evaluation.report.answer import answers
from simsong.evaluation.report.data import ReportData
from simsong.evaluation.report.meaning import meaning
from simsong.evaluation.report.recall import TABLE, evaluations
from simsong.evaluation.report.songs import neighbour_cards, song_map
from simsong.evaluation.report.studies import shown_studies
from simsong.evaluation.report.training import training_card, training_charts
from simsong.evaluation.report.verdicts import at

# The page works without it; with it, a song that starts stops the one before.
SCRIPT = ('document.addEventListener("play",e=>{for(const a of document.querySelectorAll("audio"))'
          'if(a!==e.target)a.pause()},true)')


def render(report: ReportData) -> str:
    """The page, as HTML. All text is escaped: titles are other people's. Nothing but what stands in it is
    loaded, and no script but ours runs, which its policy names by digest."""
    environment = Environment(loader=PackageLoader("simsong.evaluation.report"), autoescape=True,
                              trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"label": words.label, "css": words.css, "number": words.number,
                            "said": words.said, "interval": words.interval, "count": words.count,
                            "duration": words.duration}
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        report=report, script=Markup(SCRIPT), script_digest=digest, answers=answers(report),
        evaluations=evaluations(report.evaluation), studies=shown_studies(report.studies),
        meaning=meaning(report.evaluation), funnel=_funnel(report.funnel), map=song_map(report),
        neighbours=neighbour_cards(report), charts=training_charts(report.training),
        cards=[training_card(card) for card in report.training], metrics=TABLE, about=words.ABOUT, at=at)


def _funnel(funnel: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for stage, counts in funnel.items():
        row: dict[str, Any] = {"stage": stage.replace("_", " "), "ok": counts.get("ok", 0)}
        for kind in ("failed", "pending"):
            row[kind] = sorted((counts.get(kind) or {}).items(), key=lambda item: -item[1])
            row[f"n_{kind}"] = sum(n for _, n in row[kind])
        rows.append(row)
    most = max((r["ok"] + r["n_failed"] + r["n_pending"] for r in rows), default=0) or 1
    for row in rows:
        row["shares"] = [(kind, 100 * row[key] / most) for kind, key in
                         (("ok", "ok"), ("pending", "n_pending"), ("failed", "n_failed"))]
    return rows

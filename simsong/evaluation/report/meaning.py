"""Whether the embeddings mean something beyond the ground truth: genres, groups, and a song known again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    ("genre_probe", (), "value", "Genre, by a line", "share of the songs of unseen artists whose genre a "
     "linear classifier tells from the embedding"),
    ("genre_knn", (), "value", "Genre, by neighbours", "share of the songs whose genre their nearest songs "
     "tell"),
    ("genre_knn", ("artist_filter",), "value", "… without the artist", "the same where songs of the own "
     "artist do not count: what is left is genre, not the artist's own sound"),
    ("clustering", (), "nmi", "Groups match genres", "normalised mutual information of k-means groups, as "
     "many as there are genres, with them: 1 where they are the same; small groups match a little by chance"),
    ("clustering", (), "ami", "… less chance", "the same adjusted, so that chance gives 0"),
    ("clustering", (), "silhouette", "Genres lie apart", "silhouette of the genres: −1 to 1, above 0 where "
     "songs lie nearer to their own genre than to the next"),
    ("same_song", (), "value", "Song known again", "share of the segments whose nearest segment of another "
     "position is of the same song"),
)


def meaning(evaluation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The table of what was measured: columns of (title, explanation), and for each method its cells; None
    where nothing was."""
    by_method = (evaluation or {}).get("meaning") or {}
    columns = [column for column in COLUMNS if any(_cell(row, column) for row in by_method.values())]
    if not columns:
        return None
    rows = [(method, cells) for method, row in by_method.items()
            if any(cells := [_cell(row, column) for column in columns])]
    best = [max(cell["value"] for cell in column if cell)
            for column in zip(*(cells for _, cells in rows), strict=True)]
    return {"columns": [(title, about) for *_, title, about in columns], "rows": rows, "best": best,
            "facts": _facts(by_method)}


def _cell(row: Mapping[str, Any], column: tuple[Any, ...]) -> dict[str, Any] | None:
    """{"value", "low", "high"}, or None where it was not measured."""
    name, path, key, *_ = column
    at = row.get(name)
    for inner in path:
        at = at.get(inner) if at else None
    if not at or at.get(key) is None:
        return None
    return {"value": at[key], "low": at.get("low") if key == "value" else None,
            "high": at.get("high") if key == "value" else None}


def _facts(by_method: Mapping[str, Any]) -> dict[str, Any]:
    """On how much it was measured, by the first method that tells."""
    out: dict[str, Any] = {}
    for key, name in (("genre_probe", "songs"), ("genre_probe", "genres"), ("genre_probe", "majority"),
                      ("same_song", "segments"), ("same_song", "songs"), ("same_song", "unseen"),
                      ("same_song", "chance")):
        values = [row[key][name] for row in by_method.values() if (row.get(key) or {}).get(name) is not None]
        out[f"{key}_{name}"] = values[0] if values else None
    return out

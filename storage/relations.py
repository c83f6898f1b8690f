"""What the views of a store's SQL are made over: which files there are, what is current, what is published.

The templates of `storage/sql` get these facts, whether DuckDB reads Arrow datasets (`storage.views`) or, by
itself, the files (`storage.script`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simsong.errors import StoreError
from simsong.pretrained.tags import tags_of, voice_weights
from storage.catalogue import Catalogue
from storage.exports import CURRENT, EXPORTS, is_of_published
from storage.reports import QUERIES
from storage.store import Store
from storage.tables import FUNNEL, TABLES, Table

UNFILTERED = "ingest"       # the stage whose outcomes tell of songs that did not get into the catalogue
PART = re.compile(r"\d+(-\d+)?\.parquet")
TEMPLATES = Path(__file__).parent / "sql"
# table → stage, not of `publish`
_EMBEDDED = {"lyric_embeddings": "embed_lyrics", "features": "features", "tag_scores": "tag_scores"}
_SONGS = {"track_id": "the track's id in `tracks`", "artist": "the artist's name", "title": "the title",
          "release": "the album", "year": "of release", "duration_s": "seconds",
          "duplicate_of": "the id of the same recording that was catalogued first; null for that one itself",
          "duplicate_by": "how that is known: names, or sound",
          "embedding": "the published embedding"}
_TAGS = {"track_id": "the track's id in `tracks`", "name": "a tag of the pretrained network",
         "score": "how well it fits the song, 0 to 1"}
_HEARD = {"instrumental": "0 (sung) to 1 (instrumental), by the pretrained network's tags; null without one",
          "voice": "sung or instrumental: by the lyrics where there are any, else by the tags"}
_QUERIES = {"method": "what was measured: ns, wns, adapted, mfcc, random, …",
            "pool": "the candidates: songs held out, or everything embedded",
            "artist_filter": "whether songs of the query's artist are left out",
            "truth": "the ground truth: what counts as similar", "query": "the track_id that was asked",
            "artist_id": "its artist's id", "n_relevant": "how many songs are similar to it, by the truth"}
_METRICS = {"recall": "share of the similar songs that are among the first {k}",
            "hit_rate": "1 where a similar song is among the first {k}, else 0",
            "ndcg": "normalised discounted cumulative gain of the first {k}",
            "map": "average precision", "mrr": "1 over the place of the first similar song"}
_TYPES = {pa.string(): "VARCHAR", pa.float32(): "FLOAT", pa.float64(): "DOUBLE",
          pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT",
          pa.bool_(): "BOOLEAN", pa.large_binary(): "BLOB",
          pa.list_(pa.float32()): "FLOAT[]", pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE"}
_TOTALS = pa.schema([("stage", pa.string()), ("model", pa.string()), ("status", pa.string()),
                     ("reason", pa.string()), ("songs", pa.int64())])


@dataclass(frozen=True)
class Relation:
    """A table of the schema `stored`: files of the same columns.

    Attributes:
        schema: columns, those that a file lacks being null; without `partition`.
        keys: of its files; None where they are the parts of `table`.
    """

    name: str
    schema: pa.Schema
    table: Table | None = None
    keys: tuple[str, ...] = ()

    @property
    def partition(self) -> str | None:
        return self.table.partition if self.table else None

    def files(self, store: Store) -> Iterator[tuple[str, str | None]]:
        """The key of each file, and its value of the partition."""
        if self.table is None:
            yield from ((key, None) for key in self.keys)
            return
        for key in store.backend.list(f"tables/{self.table.name}"):
            *_, folder, name = key.split("/")
            partition, _, value = folder.partition("=")
            if PART.fullmatch(name) and (self.partition or self.table.name) == partition:
                yield key, value or None


@dataclass(frozen=True)
class Facts:
    """Of a store, when its SQL is made. Attributes:

        relations: the tables of the schema `stored`, but for `totals`.
        totals: stage, model, status, reason, songs: of stages that take all songs at once.
        context: what the templates of views and macros get.
    """

    relations: tuple[Relation, ...]
    totals: pa.Table
    context: dict[str, Any] = field(default_factory=dict[str, Any])


def facts_of(store: Store) -> Facts:
    """Raises: StoreError where what is published is damaged."""
    current = store.get_json(CURRENT) or {}
    model = current.get("model")
    songs_key, windows_key = (f"{EXPORTS}/{model}/{name}.parquet" for name in ("tracks", "segments"))
    songs_file, windows_file = (_schema(store, key) if model else None for key in (songs_key, windows_key))
    queries = _schema(store, QUERIES)
    columns = TABLES["tracks"].schema
    by_text = [pa.field(name, pa.string()) for name in ("duplicate_of", "duplicate_by")]
    songs = pa.schema([*(columns.field(name).with_nullable(True) for name in list(_SONGS)[:6]), *by_text,
                       pa.field("embedding", _vector(songs_file))])
    windows = pa.schema([pa.field("track_id", pa.string()), pa.field("segment", pa.int16()),
                         pa.field("embedding", _vector(windows_file))])
    query_schema = pa.schema([(name, _plain(queries.field(name).type))
                              for name in queries.names]) if queries else \
        pa.schema([(name, {"artist_filter": pa.bool_(), "n_relevant": pa.int32()}.get(name, pa.string()))
                   for name in _QUERIES])
    relations = [Relation(table.name, _with_nulls(table.schema), table) for table in TABLES.values()]
    relations += [Relation("songs", songs, keys=(songs_key,) if songs_file else ()),
                  Relation("windows", windows, keys=(windows_key,) if windows_file else ()),
                  Relation("queries", query_schema, keys=(QUERIES,) if queries else ())]
    labels = {table: _latest(store, table, stage, current.get("parts", [model] if model else []))
              for table, stage in _EMBEDDED.items()}
    gone = bool(songs_file) and _any_gone(store, songs_key, current)
    near = store.footers("neighbours")
    fresh = is_of_published(store, "neighbours")
    sql = _sql_types(songs.field("embedding").type)
    embed = current.get("parts", [model]) if songs_file else None
    in_use = {**({"embed": embed} if embed else {}),
              **{_EMBEDDED[table]: [label] for table, label in labels.items() if label}}
    context = {**sql, "model": model if songs_file else None, "gone": gone, "fresh": fresh,
               "depth": near[0].facts["depth"] if fresh and not gone else 0,
               "marked": sum((current.get("duplicates") or {}).values()), "unfiltered": UNFILTERED,
               "current": in_use, "stages": "[" + ", ".join(text(name) for name in FUNNEL) + "]",
               "views": list(_views(store, songs, windows, query_schema, labels))}
    return Facts(tuple(relations), _totals(store), context)


def render(name: str, **context: Any) -> str:
    """A template of `storage/sql`."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=False,
                                     undefined=jinja2.StrictUndefined)
    environment.filters |= {"text": text, "name": identifier, "remark": remark}
    return environment.get_template(name).render(**context)


def text(value: Any) -> str:
    """A literal of SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def identifier(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def remark(value: str) -> str:
    """What can stand in a line of comment."""
    return "".join(c if c.isprintable() else "?" for c in value)


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of a declared column's type. Vectors are lists, since files do not tell their width."""
    return "FLOAT[]" if pa.types.is_fixed_size_list(kind) else _TYPES[kind]


def _views(store: Store, songs: pa.Schema, windows: pa.Schema, queries: pa.Schema,
           labels: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    """In an order in which none needs a later one."""
    traits: Mapping[str, str] = {}
    yield _view("songs", "songs", "a published song", _SONGS)
    for table in TABLES.values():
        about = dict(table.about)
        if table.partition == "stage":
            yield from _outcomes(table, about)
        elif table.partition:
            about |= {"model": "the model: its name and version"}
            yield _view(f"{table.name}_all", "catalogue", f"{table.grain}, by each model there is", about,
                        of=table.name)
            of_which = "by the published embedding" if table.name not in _EMBEDDED else "by the current model"
            comment = f"{table.grain}, {of_which}; {table.name}_all has every model's"
            if table.name in _EMBEDDED:
                label = labels[table.name]
                width = _vector(_part_schema(store, table, label)) if label else pa.list_(pa.float32())
                yield _view(table.name, "current", comment, about, of=table.name, model=label,
                            vector=_sql_types(width)["vector"])
            else:
                schema, of = (songs, "songs") if table.name == "track_embeddings" else (windows, "windows")
                yield _view(table.name, "exported", comment, about, of=of, key=table.key,
                            vector=_sql_types(schema.field("embedding").type)["vector"])
        elif table.name == "traits":
            traits = about
        elif table.name == "neighbours":
            yield _view("neighbours", "neighbours", f"{table.grain}, by the published embedding; each "
                        "recording once, and at most 100", about)
        elif table.name in ("artists", "albums"):
            width = _vector(_part_schema(store, table, None))
            yield _view(table.name, "vectors", table.grain, about, of=table.name,
                        vector=_sql_types(width)["vector"])
        else:
            yield _view(table.name, "catalogue" if table.sharded or table.name == "map" else "plain",
                        table.grain, about, of=table.name)
    label = labels["tag_scores"]
    yield _view("heard_tags", "heard_tags", "a tag of the pretrained network, and how well it fits a song",
                _TAGS, tags=tags_of(label or ""))
    yield _view("traits", "traits", TABLES["traits"].grain, {**traits, **_HEARD}, of=list(traits),
                voices=voice_weights(label or ""))
    comment = {name: _QUERIES.get(name) or _metric(name) for name in queries.names}
    yield _view("queries", "plain", "a song asked in the latest evaluation: by a method, among candidates, "
                "against a ground truth", comment, of="queries")


def _view(name: str, kind: str, about: str, columns: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "about": about, "columns": columns, **more}


def _outcomes(table: Table, about: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    columns = {**about, "stage": "the stage", "model": "the model, at stages that have a part for each"}
    yield _view("outcomes_all", "outcomes_all", f"{table.grain}, with each model there is", columns)
    yield _view("outcomes", "outcomes", f"{table.grain}, with the current model; outcomes_all has every "
                "model's", columns)


def _metric(name: str) -> str:
    kind, _, k = name.partition("@")
    return _METRICS.get(kind, name).format(k=k)


def _sql_types(kind: pa.DataType) -> dict[str, str]:
    """Types and functions of vectors: of a fixed width, or, where nothing tells it, lists."""
    fixed = pa.types.is_fixed_size_list(kind)
    width, of = (f"[{kind.list_size}]", "array") if fixed else ("[]", "list")
    return {"vector": f"FLOAT{width}", "double": f"DOUBLE{width}",
            "inner": f"{of}_inner_product"}


def _vector(schema: pa.Schema | None) -> pa.DataType:
    kind = schema.field("embedding").type if schema else None
    fixed = kind is not None and pa.types.is_fixed_size_list(kind)
    return pa.list_(pa.float32(), kind.list_size) if kind is not None and fixed else pa.list_(pa.float32())


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _with_nulls(schema: pa.Schema) -> pa.Schema:
    return pa.schema([one.with_nullable(True) for one in schema])


def _schema(store: Store, key: str) -> pa.Schema | None:
    """None where there is no such file."""
    try:
        with store.backend.get(key) as file:
            return pq.read_schema(file)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        detail = str(error).splitlines()[0]
        raise StoreError(f"{key}: cannot be read ({detail}); `simsong publish` makes it again") from None


def _part_schema(store: Store, table: Table, label: str | None) -> pa.Schema | None:
    """Of one that has rows, since only those tell a vector's width."""
    for key in store.backend.list(table.folder(label)):
        schema = _schema(store, key) if PART.fullmatch(key.rpartition("/")[2]) else None
        if schema is not None and pa.types.is_fixed_size_list(schema.field("embedding").type):
            return schema
    return None


def _latest(store: Store, table: str, stage: str, published: Sequence[str]) -> str | None:
    """The model in use: one that is published, or else whose part was written last."""
    labels = store.partitions(table)
    if len(labels) < 2:
        return labels[0] if labels else None
    if used := [label for label in labels if label in published]:
        return used[0]

    def at(label: str) -> tuple[str, str]:
        rows = store.read("outcomes", partition=f"{stage}-{label}", columns=["at"])
        return str(pc.call_function("max", [rows["at"]]).as_py() if rows.num_rows else ""), label
    return max(labels, key=at)


def _any_gone(store: Store, key: str, current: Mapping[str, Any]) -> bool:
    """Whether a published song has left the catalogue since."""
    if not (footers := store.footers("tracks")):
        return False
    if current.get("catalogue") == footers[0].columns["track_id"]:
        return False
    with store.backend.get(key) as file:
        ids = pq.ParquetFile(file, page_checksum_verification=True).read(columns=["track_id"])["track_id"]
    there = pc.call_function("is_in", [ids], pc.SetLookupOptions(value_set=Catalogue(store).ids()))
    return not pc.call_function("all", [there]).as_py()


def _totals(store: Store) -> pa.Table:
    """What stages that take all songs at once have counted themselves."""
    rows: list[dict[str, Any]] = []
    for partition in store.partitions("outcomes"):
        footers = store.footers("outcomes", 0, partition)
        if not footers or "ok" not in footers[0].facts:
            continue
        stage, _, model = partition.partition("-")
        same = {"stage": stage, "model": model or None}
        rows.append({**same, "status": "ok", "reason": None, "songs": footers[0].facts["ok"]})
        rows += [{**same, "status": "failed", "reason": reason, "songs": songs}
                 for reason, songs in sorted(footers[0].facts["failed"].items())]
    return pa.Table.from_pylist(rows, schema=_TOTALS)

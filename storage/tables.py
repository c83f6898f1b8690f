"""A store's tables: each declared once, with key, grain and units, for writer, reader, views and docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simsong.errors import REASONS, StoreError

__all__ = ["REASONS", "TABLES", "TIMBRE", "Table", "conform"]

TIMBRE = "timbre"               # the model whose vectors are made from the catalogue alone


@dataclass(frozen=True)
class Table:
    name: str
    grain: str                              # what a row is
    key: tuple[str, ...]
    schema: pa.Schema
    volatile: tuple[str, ...] = ()          # never part of an identity
    sharded: bool = True                    # one part a shard; else one file for all
    partition: str | None = None            # a folder level `<partition>=<value>`, and a column in views
    by_song: bool = False                   # written and read a song at a time, never held whole
    of_all: tuple[str, ...] = ()            # partitions of one part, for the songs of all shards
    distinct: tuple[str, ...] = ()          # columns whose values hardly come twice: no dictionary pays

    def folder(self, value: str | None = None) -> str:
        if (value is None) != (self.partition is None):
            raise StoreError(f"table {self.name}: a {self.partition or 'partition'} was expected"
                             if value is None else f"table {self.name} has no partitions")
        return f"tables/{self.name}" + (f"/{self.partition}={value}" if value is not None else "")


def _field(name: str, kind: pa.DataType, null: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=null)


_S, _F, _D, _I = pa.string(), pa.float32(), pa.float64(), pa.int32()
_ID = _field("track_id", _S, null=False)
_AT = pa.timestamp("us", tz="UTC")


def _vectors(name: str, grain: str, key: tuple[str, ...], *fields: pa.Field,
             of_all: tuple[str, ...] = ()) -> Table:
    # The width differs from model to model, so it is the part that fixes it (fixed_size_list<float>[dim]).
    schema = pa.schema([_ID, *fields, _field("embedding", pa.list_(_F), null=False)])
    return Table(name, grain, key, schema, partition="model", of_all=of_all)


def _labels(name: str, id_name: str, *more: pa.Field) -> Table:
    schema = pa.schema([
        _field(id_name, _S, null=False), _field("name", _S, null=False), _field("weight", _F), *more])
    grain = f"a label on {'an artist' if id_name == 'artist_id' else 'a track'}"
    return Table(name, grain, (id_name, "name"), schema, sharded=False)


TABLES: dict[str, Table] = {t.name: t for t in (
    Table("tracks", "a recording", ("track_id",), sharded=False, schema=pa.schema([
        _ID,
        _field("song_id", _S), _field("artist_id", _S),
        _field("artist", _S, null=False), _field("title", _S, null=False),
        _field("release", _S), _field("year", pa.int16()), _field("duration_s", _F),
        _field("source", _S, null=False),
        _field("url", _S),                              # where its audio is known to be
        _field("fingerprint", _S),                      # of a local audio file: the same while its sound is
        _field("lyrics_fingerprint", _S),               # of the lyrics file beside it
        _field("fade_in_end_s", _F), _field("fade_out_start_s", _F),    # MSD's
        _field("duplicate_of", _S),                     # the id of another entry of the same recording
        _field("shard", _I, null=False),
    ])),
    Table("shards", "a track ever catalogued", ("track_id",), volatile=("gone_at",), sharded=False,
          schema=pa.schema([
              _ID, _field("shard", _I, null=False),
              _field("gone_at", _AT),                   # when it left the catalogue; null while it is there
          ])),
    Table("files", "a local file ever catalogued", ("track_id",), sharded=False, schema=pa.schema([
        _ID, _field("url", _S, null=False),             # where it was last
        _field("stat", _S, null=False),                 # size and modification time, when it was read
        _field("sound", _S),                            # SHA-256 of its encoded sound, without tags
        _field("fingerprint", _S, null=False), _field("duration_s", _F),    # as `tracks` has them
    ])),
    Table("similars", "a directed pair (Last.fm)", ("track_id", "similar_id"), sharded=False,
          distinct=("similar_id", "score"), schema=pa.schema([
              _ID, _field("similar_id", _S, null=False), _field("score", _F, null=False),       # 0..1
          ])),
    Table("artist_similars", "a directed pair of artists (MSD)", ("artist_id", "similar_id"), sharded=False,
          schema=pa.schema([
              _field("artist_id", _S, null=False), _field("similar_id", _S, null=False), _field("rank", _I),
          ])),
    _labels("tags", "track_id"),
    Table("vocabulary", "a tag", ("name",), sharded=False, schema=pa.schema([
        _field("name", _S, null=False), _field("songs", _I, null=False),    # in all the sources
    ])),
    Table("genres", "a genre of a track, by one annotation", ("track_id", "source", "name"), sharded=False,
          schema=pa.schema([
              _ID, _field("name", _S, null=False), _field("weight", _F),
              _field("source", _S, null=False),                 # who says so: tagtraum_cd2, artist_term, …
          ])),
    Table("artist_terms", "a term on an artist", ("artist_id", "name"), sharded=False, schema=pa.schema([
        _field("artist_id", _S, null=False), _field("name", _S, null=False),
        _field("freq", _F), _field("weight", _F),
    ])),
    Table("words", "a word of a track's lyrics (musiXmatch)", ("track_id", "word"), sharded=False,
          schema=pa.schema([
              _ID, _field("word", _S, null=False), _field("count", _I, null=False),     # stemmed
          ])),
    Table("timbre", "a track's timbre (MSD)", ("track_id",), sharded=False, schema=pa.schema([
        _ID, _field("embedding", pa.list_(_F), null=False),
    ])),
    Table("audio", "a fetched song", ("track_id",), volatile=("fetched_at",), schema=pa.schema([
        _ID,
        _field("url", _S), _field("title", _S),         # where it was found, and what it is called there
        _field("match_score", _F),                      # 0..100; null where the url was known
        _field("file", _S, null=False),                 # a key of the store, or a file:// URL of a local file
        _field("codec", _S), _field("duration_s", _F), _field("bytes", pa.int64()),
        _field("sha256", _S, null=False),               # of the file; of a local one, of its sound
        _field("fetched_at", _AT),
    ])),
    Table("candidates", "a result of a song's search", ("track_id", "rank"), schema=pa.schema([
        _ID, _field("rank", pa.int16(), null=False),                    # its place there: 0, 1, …
        _field("url", _S, null=False), _field("title", _S, null=False), _field("channel", _S),
        _field("duration_s", _F),
        _field("score", _F, null=False),                                # 0..100
        _field("chosen", pa.bool_(), null=False),
        _field("why", _S, null=False),                                  # it was chosen, or was not: one line
    ])),
    Table("trims", "a song", ("track_id",), schema=pa.schema([
        _ID, _field("start_s", _F, null=False), _field("end_s", _F, null=False),
        _field("mode", _S, null=False),
    ])),
    Table("segments", "a 30 s window", ("track_id", "segment"), by_song=True, schema=pa.schema([
        _ID, _field("segment", pa.int16(), null=False),                 # 0, 1, … in song order
        _field("start_s", _F, null=False), _field("end_s", _F, null=False),     # in the untrimmed song
        _field("audio", pa.large_binary(), null=False),                 # 16 kHz mono FLAC
    ])),
    Table("lyrics", "a song's words", ("track_id",), volatile=("fetched_at",), schema=pa.schema([
        _ID, _field("kind", _S, null=False),                            # text, instrumental
        _field("url", _S), _field("match_score", _F), _field("language", _S), _field("text", _S),
        _field("fetched_at", _AT),
    ])),
    _vectors("lyric_embeddings", "a song", ("track_id",)),
    _vectors("features", "3 s of a song, as a pretrained network hears them", ("track_id", "patch"),
             _field("patch", pa.int16(), null=False),                        # 0, 1, … in song order
             _field("start_s", _F, null=False)),                             # in the untrimmed song
    _vectors("segment_embeddings", "a window", ("track_id", "segment"),
             _field("segment", pa.int16(), null=False)),
    _vectors("track_embeddings", "a song", ("track_id",), of_all=(TIMBRE,)),
    Table("soundprints", "a window", ("track_id", "segment"), schema=pa.schema([
        _ID, _field("segment", pa.int16(), null=False), _field("start_s", _F, null=False),
        _field("embedding", pa.list_(_F), null=False),          # (moments · bands,) dB
    ])),
    Table("outcomes", "a song at a stage", ("track_id",), volatile=("attempts", "at"), partition="stage",
          schema=pa.schema([
              _ID, _field("status", _S, null=False),        # ok, pending, failed
              # of a failure; at fetching stages also of one that left an earlier answer's row, which is ok
              _field("reason", _S), _field("detail", _S),
              _field("input", _S),      # digest of what its rows were made from, or of what was asked for
              _field("policy", _S),     # that it was asked for under, at fetching stages: tasks/observed.py
              _field("output", _S),     # digest of its rows where the table is one that is read by song
              _field("attempts", pa.int16(), null=False), _field("at", _AT),
          ])),
)}


def conform(table: Table, rows: pa.Table | list[dict[str, Any]]) -> pa.Table:
    """Rows cast to the declared schema, sorted by key. Missing columns are null; vectors get their width.

    Raises: StoreError for unknown columns, values that do not fit, nulls where none may be, doubled keys.
    """
    given = _columns(rows) if isinstance(rows, list) else rows
    if unknown := set(given.column_names) - set(table.schema.names):
        raise StoreError(f"table {table.name}: unknown columns {', '.join(sorted(unknown))}")
    arrays, fields = [], []
    for field in table.schema:
        there = field.name in given.column_names
        column = given[field.name] if there else pa.nulls(given.num_rows, field.type)
        if pa.types.is_list(field.type) and given.num_rows:
            field = field.with_type(pa.list_(field.type.value_type, len(column[0])))
        try:
            column = column if column.type == field.type else column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise StoreError(f"table {table.name}: {field.name}: {str(error).splitlines()[0]}") from None
        if not field.nullable and column.null_count:
            raise StoreError(f"table {table.name}: {field.name} is null in {column.null_count} rows")
        arrays.append(column)
        fields.append(field)
    out = pa.table(arrays, schema=pa.schema(fields))
    if ascending(out, table.key):
        return out
    out = out.sort_by([(name, "ascending") for name in table.key])
    if not ascending(out, table.key):
        raise StoreError(f"table {table.name}: several rows of one {', '.join(table.key)}")
    return out


def ascending(rows: pa.Table, key: tuple[str, ...]) -> bool:
    """Whether each row's key is greater than the one's before it."""
    above: Any = pa.repeat(False, max(rows.num_rows - 1, 0))
    for name in reversed(key):
        column = rows[name].combine_chunks()
        before, after = column[:-1], column[1:]
        equal = pc.call_function("equal", [before, after])
        above = pc.call_function("or", [pc.call_function("less", [before, after]),
                                        pc.call_function("and", [equal, above])])
    return not pc.call_function("any", [pc.call_function("invert", [above])]).as_py()


def _columns(rows: list[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})

"""A store's tables: each declared once, with key, grain and units, for writer, reader, views and docs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simsong.errors import REASONS, StoreError

__all__ = ["FUNNEL", "REASONS", "TABLES", "TIMBRE", "Table", "conform"]

TIMBRE = "timbre"               # the model whose vectors are made from the catalogue alone
# Stages, in the order in which songs come through.
FUNNEL = ("ingest", "fetch_audio", "fetch_lyrics", "trim", "segments", "features", "traits", "tag_scores",
          "embed_lyrics", "train", "embed", "soundprints", "compare", "embed_timbre", "choose", "export",
          "index", "neighbours", "artists", "map", "evaluate", "report")


@dataclass(frozen=True)
class Table:
    """Attributes:
        about: of each column, what it holds, in which unit. Taken from the fields that `schema` is given.
    """

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
    about: Mapping[str, str] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        comments = {one.name: (one.metadata or {}).get(_ABOUT, b"").decode() for one in self.schema}
        object.__setattr__(self, "about", comments)
        # Not in files: a part must not differ by how its columns are described.
        object.__setattr__(self, "schema", pa.schema([one.remove_metadata() for one in self.schema]))

    def folder(self, value: str | None = None) -> str:
        if (value is None) != (self.partition is None):
            raise StoreError(f"table {self.name}: a {self.partition or 'partition'} was expected"
                             if value is None else f"table {self.name} has no partitions")
        return f"tables/{self.name}" + (f"/{self.partition}={value}" if value is not None else "")


def _field(name: str, kind: pa.DataType, about: str, null: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={_ABOUT: about})


_ABOUT = b"about"
_S, _F, _D, _I = pa.string(), pa.float32(), pa.float64(), pa.int32()
_ID = _field("track_id", _S, "the track's id in `tracks`", null=False)
_AT = pa.timestamp("us", tz="UTC")
_SEGMENT = _field("segment", pa.int16(), "its number in the song: 0, 1, … in song order", null=False)


def _vectors(name: str, grain: str, key: tuple[str, ...], *fields: pa.Field,
             of_all: tuple[str, ...] = ()) -> Table:
    # The width differs from model to model, so it is the part that fixes it (fixed_size_list<float>[dim]).
    vector = _field("embedding", pa.list_(_F), "its vector by that model", null=False)
    return Table(name, grain, key, pa.schema([_ID, *fields, vector]), partition="model", of_all=of_all)


TABLES: dict[str, Table] = {t.name: t for t in (
    Table("tracks", "a recording of the catalogue", ("track_id",), sharded=False, schema=pa.schema([
        _field("track_id", _S, "its id: the source's, or of a local file made of its sound", null=False),
        _field("song_id", _S, "the source's id of the song (MSD), which several tracks may share"),
        _field("artist_id", _S, "the source's id of the artist"),
        _field("artist", _S, "the artist's name", null=False), _field("title", _S, "the title", null=False),
        _field("release", _S, "the album"), _field("year", pa.int16(), "of release"),
        _field("duration_s", _F, "seconds, as the source tells it"),
        _field("source", _S, "the source that it comes from: folder, table, msd, demo", null=False),
        _field("url", _S, "where its audio is known to be"),
        _field("fingerprint", _S, "of a local audio file: the same while its sound is"),
        _field("lyrics_fingerprint", _S, "of the lyrics file beside it"),
        _field("fade_in_end_s", _F, "seconds into the song where the fade-in ends (MSD)"),
        _field("fade_out_start_s", _F, "seconds into the song where the fade-out starts (MSD)"),
        _field("duplicate_of", _S, "the id of another entry of the same recording, by their names"),
        _field("shard", _I, "the part of the stage tables that has its rows", null=False),
    ])),
    Table("shards", "a track ever catalogued", ("track_id",), volatile=("gone_at",), sharded=False,
          schema=pa.schema([
              _ID, _field("shard", _I, "the part of the stage tables that has its rows", null=False),
              _field("gone_at", _AT, "when it left the catalogue; null while it is there"),
          ])),
    Table("files", "a local file ever catalogued", ("track_id",), sharded=False, schema=pa.schema([
        _ID, _field("url", _S, "where it was last", null=False),
        _field("stat", _S, "its size and modification time when it was read", null=False),
        _field("sound", _S, "SHA-256 of its encoded sound, without tags"),
        _field("fingerprint", _S, "as `tracks` has it", null=False),
        _field("duration_s", _F, "seconds"),
    ])),
    Table("similars", "a directed pair of similar tracks (Last.fm)", ("track_id", "similar_id"),
          sharded=False, distinct=("similar_id", "score"), schema=pa.schema([
              _ID, _field("similar_id", _S, "the id of the track that is similar to it", null=False),
              _field("score", _F, "how similar, 0 to 1", null=False),
          ])),
    Table("artist_similars", "a directed pair of similar artists (MSD)", ("artist_id", "similar_id"),
          sharded=False, schema=pa.schema([
              _field("artist_id", _S, "the artist's id in `tracks`", null=False),
              _field("similar_id", _S, "the id of the artist similar to it", null=False),
              _field("rank", _I, "its place among those: 0 is the most similar"),
          ])),
    Table("tags", "a label on a track", ("track_id", "name"), sharded=False, schema=pa.schema([
        _ID, _field("name", _S, "the tag", null=False), _field("weight", _F, "0 to 100, as Last.fm counts"),
    ])),
    Table("vocabulary", "a tag", ("name",), sharded=False, schema=pa.schema([
        _field("name", _S, "the tag", null=False),
        _field("songs", _I, "how many songs of all the sources bear it", null=False),
    ])),
    Table("genres", "a genre of a track, by one annotation", ("track_id", "source", "name"), sharded=False,
          schema=pa.schema([
              _ID, _field("name", _S, "the genre", null=False),
              _field("weight", _F, "how sure the annotation is, where it tells"),
              _field("source", _S, "who says so: tag, tagtraum_cd2, artist_term, …", null=False),
          ])),
    Table("artist_terms", "a term on an artist", ("artist_id", "name"), sharded=False, schema=pa.schema([
        _field("artist_id", _S, "the artist's id in `tracks`", null=False),
        _field("name", _S, "the term", null=False),
        _field("freq", _F, "how often it is said of the artist, 0 to 1"),
        _field("weight", _F, "how well it tells the artist from others, 0 to 1"),
    ])),
    Table("words", "a word of a track's lyrics (musiXmatch)", ("track_id", "word"), sharded=False,
          schema=pa.schema([
              _ID, _field("word", _S, "the word, stemmed", null=False),
              _field("count", _I, "how often it comes", null=False),
          ])),
    Table("timbre", "a track's timbre (MSD)", ("track_id",), sharded=False, schema=pa.schema([
        _ID, _field("embedding", pa.list_(_F), "mean and covariance of its timbre segments", null=False),
    ])),
    Table("audio", "a fetched song", ("track_id",), volatile=("fetched_at",), schema=pa.schema([
        _ID,
        _field("url", _S, "where it was found"), _field("title", _S, "what it is called there"),
        _field("match_score", _F, "0 to 100; null where the url was known"),
        _field("file", _S, "a key of the store, or a file:// URL of a local file", null=False),
        _field("codec", _S, "of the file"), _field("duration_s", _F, "seconds, as decoded"),
        _field("bytes", pa.int64(), "the file's size"),
        _field("sha256", _S, "of the file; of a local one, of its sound", null=False),
        _field("fetched_at", _AT, "when it was fetched"),
    ])),
    Table("candidates", "a result of a song's search", ("track_id", "rank"), schema=pa.schema([
        _ID, _field("rank", pa.int16(), "its place there: 0, 1, …", null=False),
        _field("url", _S, "where it is", null=False), _field("title", _S, "as given there", null=False),
        _field("channel", _S, "who put it there"), _field("duration_s", _F, "seconds"),
        _field("score", _F, "how well it fits the song, 0 to 100", null=False),
        _field("chosen", pa.bool_(), "whether it was fetched", null=False),
        _field("why", _S, "it was chosen, or was not: one line", null=False),
    ])),
    Table("trims", "a trimmed song", ("track_id",), schema=pa.schema([
        _ID, _field("start_s", _F, "seconds into the song where it is taken to begin", null=False),
        _field("end_s", _F, "seconds into the song where it is taken to end", null=False),
        _field("mode", _S, "how that was found: none, fixed, silence, structure", null=False),
    ])),
    Table("segments", "a 30 s window", ("track_id", "segment"), by_song=True, schema=pa.schema([
        _ID, _SEGMENT,
        _field("start_s", _F, "seconds into the untrimmed song where it begins", null=False),
        _field("end_s", _F, "seconds into the untrimmed song where it ends", null=False),
        _field("audio", pa.large_binary(), "16 kHz mono FLAC", null=False),
    ])),
    Table("lyrics", "a song's words", ("track_id",), volatile=("fetched_at",), schema=pa.schema([
        _ID, _field("kind", _S, "text, or instrumental", null=False),
        _field("url", _S, "where they were found"), _field("match_score", _F, "0 to 100"),
        _field("language", _S, "a code of two letters"), _field("text", _S, "the words, cleaned"),
        _field("fetched_at", _AT, "when they were fetched"),
    ])),
    _vectors("lyric_embeddings", "a song's lyrics", ("track_id",)),
    _vectors("features", "3 s of a song, as a pretrained network hears them", ("track_id", "patch"),
             _field("patch", pa.int16(), "its number in the song: 0, 1, … in song order", null=False),
             _field("start_s", _F, "seconds into the untrimmed song where it begins", null=False)),
    Table("traits", "a song's traits, measured from its sound", ("track_id",), schema=pa.schema([
        _ID, _field("tempo_bpm", _F, "beats a minute; null where no beat is heard"),
        _field("key", _S, "C, C#, … B; null where none is heard"),
        _field("mode", _S, "major or minor"),
        _field("loudness_lufs", _F, "after ITU-R BS.1770, as one channel at 16 kHz; null for silence"),
        _field("energy", _F, "0 (soft, sparse, dark) to 1 (loud, dense, bright)", null=False),
    ])),
    _vectors("tag_scores", "a song, by the tags of a pretrained network", ("track_id",)),
    _vectors("segment_embeddings", "a window of a song", ("track_id", "segment"), _SEGMENT),
    _vectors("track_embeddings", "a song", ("track_id",), of_all=(TIMBRE,)),
    Table("neighbours", "a song and one of the songs nearest to it", ("track_id", "rank"), sharded=False,
          distinct=("similar_id", "score"), schema=pa.schema([
              _ID, _field("rank", pa.int16(), "its place among those nearest: 1 is the nearest", null=False),
              _field("similar_id", _S, "the id of the song near to it", null=False),
              _field("score", _F, "the cosine of their published embeddings, -1 to 1", null=False),
          ])),
    Table("artists", "an artist of published songs", ("artist_id",), sharded=False, schema=pa.schema([
        _field("artist_id", _S, "what names it: an artist's id in `tracks`, or a name", null=False),
        _field("artist", _S, "its name, as most of its songs have it", null=False),
        _field("songs", _I, "how many published songs it has, each recording once", null=False),
        _field("embedding", pa.list_(_F), "the mean of their published embeddings, of length 1", null=False),
    ])),
    Table("albums", "an album of published songs, by its artist and name", ("album_id",), sharded=False,
          schema=pa.schema([
              _field("album_id", _S, "a digest of its artist and name", null=False),
              _field("artist_id", _S, "its artist's id in `artists`", null=False),
              _field("artist", _S, "the artist's name, as most of its songs have it", null=False),
              _field("release", _S, "its name, as most of its songs have it", null=False),
              _field("year", pa.int16(), "of release, as most of its songs have it"),
              _field("songs", _I, "how many published songs it has, each recording once", null=False),
              _field("embedding", pa.list_(_F), "the mean of their published embeddings, of length 1",
                     null=False),
          ])),
    *(Table(f"{what}_neighbours", f"an {what} and one of the {what}s nearest to it", (f"{what}_id", "rank"),
            sharded=False, distinct=("score",), schema=pa.schema([
                _field(f"{what}_id", _S, f"its id in `{what}s`", null=False),
                _field("rank", pa.int16(), "its place among those nearest: 1 is the nearest", null=False),
                _field("similar_id", _S, f"the id of the {what} near to it", null=False),
                _field("score", _F, "the cosine of their embeddings, -1 to 1", null=False),
            ])) for what in ("artist", "album")),
    Table("map", "a published song's place on the map", ("track_id",), sharded=False, distinct=("x", "y"),
          schema=pa.schema([
              _ID, _field("x", _F, "its place, near songs that are alike", null=False),
              _field("y", _F, "its place, near songs that are alike", null=False),
              _field("cluster", _I, "the number of the region that it lies in; null between regions"),
              _field("label", _S, "what that region is called: by genres, tags, terms, or artists"),
          ])),
    Table("soundprints", "a window of a song, as duplicates are found by", ("track_id", "segment"),
          schema=pa.schema([
              _ID, _SEGMENT,
              _field("start_s", _F, "seconds into the untrimmed song where it begins", null=False),
              _field("embedding", pa.list_(_F), "(moments · bands,) dB", null=False),
          ])),
    Table("comparisons", "a song that is heard, with itself, or with another that it was compared with",
          ("track_id", "other_id"), sharded=False, distinct=("input",), schema=pa.schema([
              _ID, _field("other_id", _S, "the other's id, or its own", null=False),
              _field("input", _S, "digest of what the song's soundprint was made from, in its own row"),
              _field("same", pa.bool_(), "whether they sound as one recording; null where that is not known"),
          ])),
    Table("outcomes", "a song at a stage", ("track_id",), volatile=("attempts", "at"), partition="stage",
          schema=pa.schema([
              _ID, _field("status", _S, "ok, pending or failed", null=False),
              # At fetching stages also of a failure that left an earlier answer's row, which is ok.
              _field("reason", _S, "why it failed or is pending, a word of a closed list"),
              _field("detail", _S, "the same in more words"),
              _field("input", _S, "digest of what its rows were made from, or of what was asked for"),
              # See simsong/parts/policy.py.
              _field("policy", _S, "at fetching stages, the policy it was asked for under"),
              _field("output", _S, "digest of its rows, at stages whose table is one that is read by song"),
              _field("attempts", pa.int16(), "how often it was tried", null=False),
              _field("at", _AT, "when it was done or tried last"),
          ])),
)}


def conform(table: Table, rows: pa.Table | list[dict[str, Any]]) -> pa.Table:
    """Rows cast to the declared schema, sorted by key. Missing columns are null; vectors get their width.

    Raises: StoreError for unknown columns, values that do not fit, nulls where none may be, doubled keys.
    """
    columns = _columns(rows) if isinstance(rows, list) else rows
    if unknown := set(columns.column_names) - set(table.schema.names):
        raise StoreError(f"table {table.name}: unknown columns {', '.join(sorted(unknown))}")
    arrays, fields = [], []
    for field in table.schema:
        there = field.name in columns.column_names
        column = columns[field.name] if there else pa.nulls(columns.num_rows, field.type)
        if pa.types.is_list(field.type) and columns.num_rows:
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

"""Which of the sources' tracks are taken: filters, then a choice of so many, always the same ones."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from simsong.config import CatalogueSettings
from simsong.errors import CatalogueError
from simsong.matching import normalise
from simsong.sources.lastfm.tags import clean_tag

# A song chosen for a connected selection brings this many of its most similar ones: with all of them (100 is
# usual) a few hundred songs would be one style's.
FAN_OUT = 10


def select(db: duckdb.DuckDBPyConnection, catalogue: CatalogueSettings) -> None:
    """Make the table `chosen` (track_id), of those in `merged` that the configuration asks for.

    Reads the tables `merged`, `raw_…` and `strings_…` of a collection in the making.
    A larger limit keeps the songs of a smaller one. Raises: CatalogueError where nothing is left.
    """
    db.execute("CREATE TABLE candidates AS SELECT track_id, code FROM merged "
               "LEFT JOIN strings_ids ON value = track_id")
    _filter(db, catalogue)
    if catalogue.similars == "inside":
        _pairs(db)
        db.execute("DELETE FROM candidates WHERE code IS NULL OR code NOT IN "
                   "(SELECT a FROM inside UNION SELECT b FROM inside)")
        db.execute("DROP TABLE inside")
    order = f"md5('{catalogue.seed}:' || track_id), track_id"
    limit = f"LIMIT {catalogue.limit}" if catalogue.limit is not None else ""
    if catalogue.pick == "connected":
        _connected(db, order, catalogue.limit)
    else:
        db.execute(f"CREATE TABLE chosen AS SELECT track_id FROM candidates ORDER BY {order} {limit}"
                   if limit else "CREATE TABLE chosen AS SELECT track_id FROM candidates")
    left, = db.execute("SELECT count(*) FROM chosen").fetchall()[0]
    if not left:
        settings = catalogue.model_dump(exclude_defaults=True, exclude={"shard_songs", "seed", "tag_songs"})
        wanted = ", ".join(f"{name} = {value}" for name, value in settings.items())
        raise CatalogueError(f"no song is left by [catalogue] {wanted}")
    db.execute("DROP TABLE candidates")


def _filter(db: duckdb.DuckDBPyConnection, catalogue: CatalogueSettings) -> None:
    def keep(condition: str, *values: object) -> None:
        db.execute(f"DELETE FROM candidates WHERE track_id NOT IN ({condition})", values)

    if catalogue.genres:
        keep("SELECT track_id FROM raw_genres WHERE lower(name) IN (SELECT lower(unnest(?::VARCHAR[])))",
             list(catalogue.genres))
    if catalogue.tags:
        keep("SELECT i.value FROM raw_tags t JOIN strings_ids i ON i.code = t.track_id JOIN strings_tags n "
             "ON n.code = t.name WHERE n.value IN (SELECT unnest(?::VARCHAR[]))",
             [clean_tag(name) or name for name in catalogue.tags])
    if catalogue.years:
        keep("SELECT track_id FROM merged WHERE year BETWEEN ? AND ?", *catalogue.years)
    if catalogue.artists:
        wanted = {normalise(name) for name in catalogue.artists}
        names = db.execute("SELECT DISTINCT artist FROM merged").to_arrow_table()["artist"].to_pylist()
        keep("SELECT track_id FROM merged WHERE artist IN (SELECT unnest(?::VARCHAR[])) "
             "OR artist_id IN (SELECT unnest(?::VARCHAR[]))",
             [name for name in names if normalise(name) in wanted], list(catalogue.artists))


def _pairs(db: duckdb.DuckDBPyConnection) -> None:
    """The pairs of candidates, as the table `inside` (a, b: numbers; score)."""
    db.execute("""
        CREATE TABLE inside AS SELECT p.track_id AS a, p.similar_id AS b, p.score FROM raw_similars p
        SEMI JOIN candidates x ON x.code = p.track_id SEMI JOIN candidates y ON y.code = p.similar_id""")


def _connected(db: duckdb.DuckDBPyConnection, order: str, limit: int | None) -> None:
    """Songs in an order in which each one brings along those most similar to it.

    Breadth first from the first song of the random order that has similar ones; from the next such song
    where nothing more can be reached. The order does not depend on the limit.
    """
    _pairs(db)
    db.execute(f"""
        CREATE TABLE near AS SELECT a, b, number FROM (
            SELECT a, b, row_number() OVER (PARTITION BY a ORDER BY max(score) DESC, max(place)) AS number
            FROM (SELECT a, b, score FROM inside UNION ALL SELECT b, a, score FROM inside)
            JOIN strings_ids ON code = b WHERE a <> b GROUP BY a, b)
        WHERE number <= {FAN_OUT}""")
    db.execute("DROP TABLE inside")
    db.execute("CREATE TABLE chosen (track_id VARCHAR)")
    seeds = iter(db.execute(f"SELECT code FROM (SELECT DISTINCT a AS code FROM near) JOIN candidates "
                            f"USING (code) ORDER BY {order}").to_arrow_table()["code"].to_pylist())
    songs: set[int] = set()
    frontier: list[int] = []
    while limit is None or len(songs) < limit:
        if not frontier:
            seed = next((seed for seed in seeds if seed not in songs), None)
            if seed is None:
                break
            frontier = [seed]
        frontier = frontier[:None if limit is None else limit - len(songs)]
        songs.update(frontier)
        front = pa.table({"code": pa.array(frontier, pa.int32()), "place": range(len(frontier))})
        db.register("front", front)
        db.execute("INSERT INTO chosen SELECT track_id FROM front JOIN candidates USING (code)")
        neighbours = db.execute("SELECT b FROM near JOIN front ON a = code ORDER BY place, number").fetchall()
        db.unregister("front")
        frontier = [song for song in dict.fromkeys(b for b, in neighbours) if song not in songs]
    db.execute("DROP TABLE near")

"""Last.fm's data for the Million Song Dataset (Bertin-Mahieux et al., ISMIR 2011): similar tracks and tags.

It is distributed as JSON files, in a folder or in archives (lastfm_train.zip, lastfm_test.zip,
lastfm_subset.zip), and as the databases lastfm_similars.db and lastfm_tags.db.
"""

from __future__ import annotations

from pathlib import Path

from simsong.errors import CatalogueError
from simsong.sources.archives import is_archive
from simsong.sources.base import Source
from simsong.sources.lastfm.databases import Similars, TagsDatabase
from simsong.sources.lastfm.files import JsonFiles
from simsong.sources.sqlite import Database, is_sqlite

__all__ = ["open_lastfm"]

EXPECTED = ("a folder, .zip or .tar.gz of Last.fm's JSON files, lastfm_similars.db or lastfm_tags.db "
            "was expected")


def open_lastfm(path: str) -> Source:
    """Last.fm's data in the form that the content shows, whatever its name is.

    Raises: CatalogueError where it is in none.
    """
    if Path(path).is_dir() or is_archive(path):
        return JsonFiles(path)
    if is_sqlite(path):
        for form in (Similars, TagsDatabase):
            if form.fits(Database(path, form.kind)):
                return form(path)
        raise CatalogueError(f"{path}: an SQLite database with none of Last.fm's tables; {EXPECTED}")
    what = "is none of these" if Path(path).exists() else "there is no such file or folder"
    raise CatalogueError(f"{path}: {what}; {EXPECTED}")

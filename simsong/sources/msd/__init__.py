"""The Million Song Dataset (Bertin-Mahieux et al., ISMIR 2011), in the forms that it is distributed in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simsong.errors import CatalogueError
from simsong.sources.base import Source
from simsong.sources.msd.files import TrackArchive, TrackFiles
from simsong.sources.msd.metadata import open_database
from simsong.sources.msd.summary import Summary
from simsong.sources.msd.text import is_list, open_text
from simsong.sources.sqlite import is_sqlite

__all__ = ["open_msd"]

# Each form with how it is recognised, by content; the first that fits is taken.
FORMS: tuple[tuple[Callable[[str], bool], Callable[[str], Source]], ...] = (
    (TrackFiles.recognises, TrackFiles),            # a folder of a track's HDF5 each
    (Summary.recognises, Summary),                  # msd_summary_file.h5
    (is_sqlite, open_database),                     # track_metadata.db, artist_term.db, artist_similarity.db
    (is_list, open_text),                           # unique_tracks.txt and the other lists, or one in a .zip
    (TrackArchive.recognises, TrackArchive),        # a track's HDF5 each in a .tar.gz, .tar, .tar.bz2 or .zip
)


def open_msd(path: str) -> Source:
    """The source at a path, whatever its form. Raises: CatalogueError for what is none of them."""
    for recognises, opener in FORMS:
        if recognises(path):
            return opener(path)
    what = "not a form of the dataset" if Path(path).exists() else "there is no such file or folder"
    raise CatalogueError(f"{path}: {what}; a folder or archive of a track's HDF5 each, the summary HDF5, "
                         "track_metadata.db, or one of its lists of text was expected")

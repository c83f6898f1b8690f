"""What a store's catalogue holds, as its ingest told."""

from __future__ import annotations

from typing import Any

from simsong.errors import StoreError
from storage.catalogue import Catalogue
from storage.reports import CATALOGUE
from storage.store import Store


def catalogue_of(store: Store) -> dict[str, Any]:
    """What ingest told, and how many songs have lyrics by now. Raises: StoreError before the first ingest."""
    facts = store.get_json(CATALOGUE)
    if facts is None:
        raise StoreError(f"{store.backend.url}: no catalogue is ingested yet; `simsong ingest` or "
                         "`simsong run` does it")
    catalogue = Catalogue(store)
    facts["covered"]["lyrics"] = sum(catalogue.read("lyrics", shard, columns=["track_id"]).num_rows
                                     for shard in catalogue.parts("lyrics"))
    facts["covered"]["inside"] = facts["pairs"]["songs"]
    return facts

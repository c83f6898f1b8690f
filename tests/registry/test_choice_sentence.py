"""What is published, in a sentence: what was chosen, or what somebody named instead."""

from __future__ import annotations

from pathlib import Path

from simsong.config_loader import load
from simsong.registry.published import choice_sentence, methods_in_use
from storage.reports import CHOICE
from storage.store import Store
from tests.asked_store import write_asked_store

CHOSEN = {"methods": ["timbre"], "scores": {"timbre": 0.4, "mfcc": 0.3}, "why": "it is the best",
          "queries": 12, "metric": "ndcg@10"}


def test_it_names_what_is_published(tmp_path: Path) -> None:
    url = write_asked_store(tmp_path / "store").backend.url         # by publish.model = "mfcc"
    asked = load(None, {"store": url, "publish": {"model": "mfcc"}}, {})
    auto = load(None, {"store": url}, {})
    assert choice_sentence(Store.open(url), asked) is None
    with Store.writing(url) as store:
        store.put_json(CHOICE, CHOSEN)
        assert methods_in_use(store, asked) == methods_in_use(store, auto) == ["mfcc"]
        best = "it is the best by 12 queries of artists that validate (ndcg@10 0.400; next mfcc, 0.300)."
        assert choice_sentence(store, asked) == \
            f"Published is mfcc, as publish.model says; chosen was timbre: {best}"
        assert "Published is mfcc, as it was when it was published; chosen was timbre" in str(
            choice_sentence(store, auto))
        store.put_json(CHOICE, {**CHOSEN, "methods": ["mfcc"], "scores": {"mfcc": 0.4}})
        assert choice_sentence(store, asked) == "Published is mfcc: it is the best."

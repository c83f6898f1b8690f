"""By which model a refresh embeds songs as they come, so that a first run can be asked while it goes on."""

from __future__ import annotations

from pathlib import Path

from flows.pipeline import _early_label
from simsong.config_loader import load
from simsong.parts.stages import MFCC, RunContext
from storage.exports import CURRENT
from storage.store import Store
from tests.asked_store import write_asked_store


def test_it_is_the_published_one_or_one_that_learns_nothing(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    config = load(None, {"store": url, "pretrained": {"network": "none"}}, {})
    with Store.writing(url) as store:
        assert store.generation is not None
        assert _early_label(RunContext(config=config, generation=store.generation)) == MFCC
    write_asked_store(tmp_path / "store")
    with Store.writing(url) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        assert _early_label(run) == MFCC
        current = store.get_json(CURRENT) or {}
        for parts in (["wns-0123456789ab"], [MFCC, "wns-0123456789ab"]):
            store.put_json(CURRENT, {**current, "parts": parts})
            assert _early_label(run) is None, "an encoder's windows are not decoded twice"

"""What a fetching stage asks the world for, kept apart from how it asks. Pure: reads no store.

What is asked for is a song: its names, and where its file or page is. How it is asked is policy: providers,
thresholds, search, format, limits. What came of it is an observation, and settings do not undo observations:

- a song that was found stays found under every policy, and is asked for again only where what is asked for
  has changed, or on purpose (`--refetch`). A failure then leaves its row in place: the outcome stays `ok` and
  bears the reason of that failure;
- a song that failed is asked for again where the policy has changed in a way that could mend its reason
  (`MENDS`), with its attempts beginning anew;
- the row of a song that was found is replaced by a failure in one case: the song now has another address
  (another page, or a local file with other contents), and what is there lastingly fails. The old row is then
  of another sound. It stays while that address merely does not answer, and while a file is not there (an
  unmounted disk). Lyrics are of a song, not of a sound: they are replaced by a failure only where they were
  read beside a local file that is there and holds them no longer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa

from simsong.config import Config
from simsong.errors import REASONS
from simsong.parts.compute import is_open
from simsong.parts.stages import Stage, config_values, is_whole, lyrics_provider, outcome_partition
from simsong.records import Outcome
from storage.identity import column_digests, digest
from storage.store import Store

Policy = Mapping[str, Any]      # what a song was asked for under, JSON-able and without secrets
Row = dict[str, Any]


# ---- policy ----

@dataclass(frozen=True)
class Rule:
    """A change of one key of the policy, from what a failure was tried under to what holds now."""

    widens: Callable[[Any, Any], bool]      # (tried, now): whether more could be found than before
    mends: frozenset[str]                   # the reasons that this could mend


def _lower(then: float, now: float) -> bool:
    return now < then


def _higher(then: float, now: float) -> bool:
    return now > then


def _other(then: str, now: str) -> bool:
    return now != then


def _more(then: Iterable[str], now: Iterable[str]) -> bool:
    return not set(now) <= set(then)


def _appears(then: bool, now: bool) -> bool:
    return now and not then


# A song that failed in passing and was given up has not been judged: asking more widely tries it too.
_PASSING = frozenset(reason for reason, kind in REASONS.items() if kind == "transient")
_REFUSED = frozenset({"removed", "private", "drm", "geo_blocked", "age_restricted", "unavailable"})

MENDS: dict[str, dict[str, Rule]] = {
    "fetch_audio": {
        "threshold": Rule(_lower, _PASSING | {"no_match"}),
        "results": Rule(_higher, _PASSING | {"no_match"}),
        "search": Rule(_other, _PASSING | _REFUSED | {"no_match", "undecodable", "too_long"}),
        "min_duration_s": Rule(_lower, frozenset({"too_short"})),
        "max_duration_s": Rule(_higher, frozenset({"too_long"})),
        "format": Rule(_other, _PASSING | {"drm", "unavailable", "undecodable", "too_long"}),
        "cookies": Rule(_appears, _PASSING | {"private", "age_restricted", "unavailable"}),
        "proxy": Rule(_appears, _PASSING | {"geo_blocked", "unavailable"}),
    },
    "fetch_lyrics": {
        "threshold": Rule(_lower, _PASSING | {"no_lyrics"}),
        "sites": Rule(_more, _PASSING | {"no_lyrics", "no_provider", "junk_lyrics", "unavailable"}),
    },
}


def policy_of(stage: str, config: Config, url: str | None = None) -> Policy:
    """The policy that a song with that address is asked for under: only what concerns it. Without an address:
    all of the stage's. Addresses of sites may hold a password, so digests stand for them."""
    if stage == "fetch_lyrics":
        roots = {"genius": config.lyrics.genius_root, "lrclib": config.lyrics.lrclib_root}
        names = [name for name in lyrics_provider(config).split(",") if name != "none"]
        sites = [f"{name}@{digest(roots[name])[:8]}" if roots[name] else name for name in names]
        return {"threshold": config.lyrics.threshold, "sites": sorted(sites)}
    fetch, network = config.fetch, config.network
    policy: dict[str, Any] = {"max_duration_s": fetch.max_duration_s}
    if local_url(url):
        return policy
    policy |= {"format": fetch.format, "cookies": network.cookies_file is not None,
               "proxy": network.proxy is not None}
    if url is None:
        policy |= {"search": digest(fetch.search)[:8], "results": fetch.results, "threshold": fetch.threshold,
                   "min_duration_s": fetch.min_duration_s}
    return policy


def mended(stage: str, policy_then: str | None, now: Policy) -> frozenset[str]:
    """The reasons that could be mended by asking under the policy of now.

    `policy_then`: as `outcomes.policy` has it; None where it is not known."""
    before: Policy = json.loads(policy_then) if policy_then else {}
    rules = [rule for key, rule in MENDS[stage].items()
             if key in before and key in now and rule.widens(before[key], now[key])]
    return frozenset().union(*(rule.mends for rule in rules))


def tried_by(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Policy → the reasons that songs have under it. Kept in the part's footer, so that a refresh sees what a
    change of policy reopens without reading the rows."""
    out: dict[str, set[str]] = {}
    for row in rows:
        if row["reason"] and row["policy"]:
            out.setdefault(row["policy"], set()).add(row["reason"])
    return {policy: sorted(reasons) for policy, reasons in sorted(out.items())}


def is_current(store: Store, config: Config, stage: Stage, identity: str, shard: int,
               label: str | None = None) -> bool:
    """Whether the part of a shard is whole, made from that identity, and has nothing to ask again."""
    partition = outcome_partition(stage.name, label)
    if not is_whole(store, partition, identity, shard):
        return False
    if not stage.observes:
        return True
    now = policy_of(stage.name, config)
    policies = store.footers("outcomes", shard, partition)[0].facts["tried"]
    return not any(mended(stage.name, policy, now) & set(reasons) for policy, reasons in policies.items())


# ---- what is asked for ----

@dataclass(frozen=True)
class Question:
    """What is asked for, of one song."""

    names: str              # digest of what a search goes by
    address: str            # digest of where it is known to be, with a local file's fingerprint
    url: str | None
    there: bool             # it has an address, and where that is a local file, the file was seen there
    policy: Policy          # that it is asked for under now
    # the digest that stores had before policy was kept apart, for whom finds such a store
    former: Callable[[], str]

    @property
    def input(self) -> str:
        """As `outcomes.input` has it."""
        return f"{self.names}:{self.address}"


def questions(rows: pa.Table, config: Config, stage: Stage) -> dict[str, Question]:
    """By track_id, for `rows` of `tracks`."""
    columns = ["track_id", *stage.reads["tracks"]]
    how = digest(stage.version, *_FORMER[stage.name](config))
    out: dict[str, Question] = {}
    for at, row in enumerate(rows.select(columns).to_pylist()):
        url, fingerprint = row["url"], row["fingerprint"]
        local = local_url(url)
        names: Any = [row["artist"], row["title"], row["duration_s"]]
        if stage.name == "fetch_audio":
            # A local file is known by its sound, wherever it lies.
            address: Any = fingerprint if local and fingerprint else [url, fingerprint]
            names = None if url else names          # nothing is searched for what has an address
        else:
            address = row["lyrics_fingerprint"] if local and fingerprint else [url] if local else None
        out[row["track_id"]] = Question(
            names=digest(stage.version, names)[:16], address=digest(address)[:16], url=url,
            there=fingerprint is not None if local else url is not None,
            policy=policy_of(stage.name, config, url),
            former=partial(_former_digest, how, rows, at, columns))
    return out


def _former_digest(how: str, rows: pa.Table, at: int, columns: list[str]) -> str:
    return digest(how, column_digests(rows.slice(at, 1), columns))


def local_url(url: str | None) -> bool:
    """Whether it is the address of a local file."""
    return (url or "").lower().startswith("file:")


# What `input` was made of beside the song, in stores of before: settings, and the provider.
_FORMER_LYRICS = ("lyrics.threshold", "lyrics.genius_root", "lyrics.lrclib_root")
_FORMER: dict[str, Callable[[Config], list[Any]]] = {
    "fetch_audio": lambda config: [config_values(config, ("fetch",)), None],
    "fetch_lyrics": lambda config: [config_values(config, _FORMER_LYRICS), lyrics_provider(config)]}
_UNKNOWN = "?:?"        # an `input` of before that says nothing today


# ---- what stands, and what an answer does to it ----

@dataclass(frozen=True)
class Decision:
    ask: bool
    row: Row | None         # its outcome so far, if that still says something
    attempts: int = 0       # so far, if it is asked for
    beside: bool = False    # its sites have answered for these names: only the local file is to be looked at


def decide(stage: str, question: Question, row: Row | None, own_row: Row | None, attempts: int) -> Decision:
    """Whether a song is asked for.

    Args:
        row: its outcome, if there is one.
        own_row: its row of the stage's table, if there is one. It counts for more than the outcome: a run
            that was killed may have written the table alone.
        attempts: how often a passing failure is tried.
    """
    if row is not None and ":" not in (row["input"] or ""):
        row = _of_before(question, row, own_row)
    if own_row is None:
        row = None if row is not None and row["status"] == "ok" else row
    elif row is None or row["status"] != "ok":
        row = None if local_url(question.url) else _taken_over(own_row["track_id"], question)
    if row is None:
        return Decision(True, None)
    settled = not is_open(row, attempts)
    reopened = row["reason"] in mended(stage, row["policy"], question.policy)
    # A file that is there now, of the same sound, may have been away for a moment.
    reopened |= row["reason"] == "missing_file" and question.there
    last_input = _last_asked(row)
    if last_input != question.input:
        by_site = stage == "fetch_lyrics" and (own_row is None or own_row["url"] is not None)
        beside = by_site and settled and not reopened and last_input.partition(":")[0] == question.names
        return Decision(True, row, row["attempts"] if beside else 0, beside)
    if reopened:
        return Decision(True, row)
    return Decision(not settled, row, row["attempts"])


def answer(stage: str, question: Question, decision: Decision, own_row: Row | None, outcome: Outcome,
           at: datetime) -> tuple[Row, bool]:
    """The outcome of a song that was asked for, and whether the row that is held of it stays."""
    before, succeeded = decision.row, outcome.status == "ok"
    if decision.beside and not succeeded and before is not None:
        return _moved_on(before, question), True
    attempted = outcome.status != "pending"         # else its site was not asked, or answered nobody
    row = {"track_id": outcome.track_id, "status": outcome.status, "reason": outcome.reason,
           "detail": outcome.detail, "input": question.input, "policy": _text(question.policy),
           "attempts": decision.attempts + attempted, "at": at}
    if succeeded or own_row is None or (before is not None
                                        and _replaces(stage, question, before, own_row, outcome)):
        return row, False
    row["status"] = "ok"
    if before is not None and before["input"] != question.input:    # which the row that stays answers
        row |= {"input": before["input"], "policy": _text({**question.policy, "asked": question.input})}
    return row, True


def _replaces(stage: str, question: Question, before: Row, own_row: Row | None, outcome: Outcome) -> bool:
    """Whether a failure takes the place of the row that is held (see the module)."""
    lasting = outcome.status == "failed" and REASONS[outcome.reason or ""] == "permanent"
    moved = before["input"].partition(":")[2] != question.address
    if own_row is None or not (lasting and moved and question.there) or outcome.reason == "missing_file":
        return False
    return stage == "fetch_audio" or own_row["url"] is None


def at_its_place(own_row: Row, question: Question | None) -> Row:
    """A row that stays: a local file may lie elsewhere than when it was looked at.

    Args: question: None for a song that left the catalogue.
    """
    if question is None or not local_url(question.url) or not local_url(own_row.get("file")):
        return own_row
    return {**own_row, "url": question.url, "file": question.url}


def _last_asked(row: Row) -> str:
    """What was last asked for: not what `input` says where the row of an earlier question has stayed."""
    policy: Policy = json.loads(row["policy"]) if row["policy"] else {}
    return policy.get("asked", row["input"])


def _moved_on(row: Row, question: Question) -> Row:
    """An outcome that stands, of what is asked for now."""
    policy: Policy = json.loads(row["policy"]) if row["policy"] else {}
    if "asked" in policy:
        return {**row, "policy": _text({**policy, "asked": question.input})}
    return {**row, "input": question.input}


def _of_before(question: Question, row: Row, own_row: Row | None) -> Row | None:
    """An outcome of a store whose `input` was one digest of song and policy. Where it is today's, it stands
    as it is. Where not, song or policy has changed, and which cannot be told: what was found stands (local
    files are looked at again, which costs no request), what failed is asked for again."""
    if row["input"] == question.former():
        return {**row, "input": question.input, "policy": _text(question.policy)}
    if row["status"] != "ok" or own_row is None:
        return None
    if local_url(question.url) and ("file" in own_row or own_row["url"] is None):
        return unasked(row["track_id"])
    return _taken_over(row["track_id"], question)


def _taken_over(track_id: str, question: Question) -> Row:
    """For a row that has no outcome of its own."""
    return {**unasked(track_id), "input": question.input}


def unasked(track_id: str) -> Row:
    """For a row of which it is not known what was asked for."""
    return {"track_id": track_id, "status": "ok", "reason": None, "detail": None, "input": _UNKNOWN,
            "policy": None, "attempts": 1, "at": None}


def _text(policy: Policy) -> str:
    return json.dumps(policy, sort_keys=True)

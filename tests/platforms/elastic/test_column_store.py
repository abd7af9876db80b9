"""Two ways to one answer: documents by the columns that a query reads, and whole documents.

Whole documents are held against Elasticsearch itself (`agreement/test_elasticsearch`); here the columns are
held against them, on the pack's events and on records and queries at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.languages.lucene.lucene_nodes import UnsupportedLucene
from detection_pack.model.event import Event, Hit
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import load_pack
from detection_pack.platforms.elastic.column_store import ColumnStore
from detection_pack.platforms.elastic.run import run
from detection_pack.platforms.elastic.store import Opener, Store
from detection_pack.platforms.platform import Run
from detection_pack.replay.verdict import all_cases, clock_for
from support.rule_sample import kinds, sample
from support.sources import M365, PROCESS, SOURCES

_START = datetime(2026, 3, 10, 9, tzinfo=UTC)
#: Values that typed, short or lower-cased fields treat each in its own way.
_WORDS = (
    "",
    "a",
    "Straße",
    "ADMIN",
    "admin",
    "K",
    "İ",
    "null",
    "true",
    "TRUE",
    "0",
    "-1",
    "2",
    "9223372036854775808",
    "1.5",
    "a b\nc",
    'quote " and \\ backslash',
    "x" * 1024,
    "x" * 1025,
    "\U0001f600" * 512,
    "\U0001f600" * 513,
    "10.0.0.1",
    "10.0.0.1:443",
    "[2001:db8::1]:443",
    "2001:DB8:0:0::1",
    "::ffff:10.0.0.1",
    "010.0.0.1",
    "user@contoso.example",
    "a@b@c",
    "2026-03-10T09:15:00",
    "C:\\Windows\\System32\\cmd.exe",
    "MD5=0A,SHA256=FF",
    "Set-Mailbox",
    "Client=WebServices;python-requests/2.25",
)
_OTHERS: tuple[Any, ...] = (None, True, False, 0, 1, 2, 50, -3, 1.5, 2**63, [], {}, ["a", "b"], {"x": "y"})
_NAMES = ("Identity", "Role", "AccessRights", "Value", "a b", "quote'", "Ü", "x.y")


def _value(rng: random.Random) -> Any:
    return rng.choice(_WORDS) if rng.random() < 0.7 else rng.choice(_OTHERS)


def _named_values(rng: random.Random) -> Any:
    if rng.random() < 0.1:
        return _value(rng)
    return [
        {"Name": rng.choice(_NAMES), "Value": _value(rng)} if rng.random() < 0.9 else _value(rng)
        for _ in range(rng.randrange(4))
    ]


def _record(rng: random.Random, source: LogSource, moment: datetime) -> dict[str, Any]:
    record = {field: _value(rng) for field in source.fields if rng.random() < 0.5}
    if source is M365:
        record |= {"CreationTime": moment.strftime("%Y-%m-%dT%H:%M:%S"), "AnotherKey": _value(rng)}
        record |= {"RecordType": rng.choice([1, 2, 3, 50, "ExchangeItem", "2", None])}
        record |= {"Parameters": _named_values(rng)} if rng.random() < 0.7 else {}
    else:
        record |= {"UtcTime": moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3], "EventID": _value(rng)}
        record |= {
            "EventType": rng.choice(["start", ["start", "change"], ["start", ""], [""], [None], [], None])
        }
    return record


def _events(rng: random.Random, count: int) -> list[Event]:
    events = []
    for n in range(count):
        source = rng.choice([M365, PROCESS])
        moment = _START + timedelta(seconds=rng.randrange(7200))
        events.append(Event(f"{n:04d}", source, _record(rng, source, moment)))
    return events


def _escaped(text: str) -> str:
    return "".join(c if c.isalnum() else f"\\{c}" for c in text)


def _clause(rng: random.Random, fields: Sequence[str], held: Sequence[str]) -> str:
    field = rng.choice(fields)
    said = rng.choice(held if held and rng.random() < 0.6 else [word for word in _WORDS if word])
    name = field.replace(" ", "\\ ").replace("'", "\\'")
    kind = rng.randrange(6)
    if kind == 0:
        return f"_exists_:{name}"
    if kind == 1:
        return f"{name}:*{_escaped(said[: rng.randrange(1, 8)])}*"
    if kind == 2:
        return f"{name}:{_escaped(said[:1])}?{_escaped(said[2:6])}*"
    if kind == 3:
        return f"{name}:[{rng.randrange(3)} TO {rng.randrange(3, 60)}]"
    if kind == 4 and (bare := "".join(c for c in said if c.isalnum())[:20]):
        return f"{name}:/.*{bare}.*/"
    return f"{name}:{_escaped(said)}"


def _query(rng: random.Random, fields: Sequence[str], held: Sequence[str]) -> str:
    parts = [
        ("NOT " if rng.random() < 0.25 else "") + _clause(rng, fields, held)
        for _ in range(rng.randrange(1, 4))
    ]
    return rng.choice([" AND ", " OR "]).join(f"({part})" for part in parts)


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except UnsupportedLucene as error:
        return str(error)


@pytest.mark.parametrize("keeps_owner", [True, False])
@pytest.mark.parametrize(
    ("seed", "queries"), [(0, 30), *(pytest.param(n, 60, marks=pytest.mark.campaign) for n in (1, 2))]
)
def test_records_and_queries_at_random(seed: int, queries: int, keeps_owner: bool) -> None:
    rng = random.Random(seed)
    events = _events(rng, 150)
    variables = {"keeps_item_owner": keeps_owner}
    with Store(events, SOURCES.values(), variables) as whole:
        documents = whole.documents
        held = [v for d in documents.values() for v in d.values() if isinstance(v, str) and len(v) < 100]
        fields = sorted({name for document in documents.values() for name in document})
        fields += ["user.name.text", "process.name.text", "no.such.field", "o365.audit.Parameters"]
        found = 0
        with ColumnStore(events, SOURCES.values(), variables) as columns:
            for _ in range(queries):
                query = _query(rng, fields, held)
                during = rng.choice(
                    [(None, None), (_START + timedelta(hours=1), _START + timedelta(hours=2))]
                )
                indices = rng.choice([["*"], ["logs-o365.audit-*"]])
                by_columns = _asked(lambda: columns.lucene(query, indices, during))  # noqa: B023
                by_documents = _asked(lambda: whole.lucene(query, indices, during))  # noqa: B023
                if not isinstance(by_columns, str):
                    by_columns -= set(whole.refused)
                    found += bool(by_columns)
                assert by_columns == by_documents, query
            shown = [
                f for f in fields if f not in ("no.such.field", "o365.audit.Parameters") and ".text" not in f
            ]
            by_id = columns.shown(documents, shown)
    assert by_id == {i: dict(d) for i, d in documents.items()}
    assert found > queries / 8


def _hits(
    opened: Opener, names: Collection[str], events: Sequence[Event], variables: Mapping[str, bool]
) -> list[Hit]:
    entries = [entry for entry in rule_entries(ROOT / "dist") if entry.name in names]
    given = Run(ROOT / "dist", entries, events, clock_for(events), SOURCES.values(), exact_only=True)
    hits = run(given, variables, opened)
    return sorted(hits, key=lambda hit: (hit.rule, hit.artefact, str(hit.group), str(hit.window)))


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("keeps_owner", [True, False])
def test_every_rule_on_the_packs_events(keeps_owner: bool, whole: bool) -> None:
    """Of every kind of rule; in the ordinary run those of the sample."""
    pack = load_pack(ROOT)
    built = [rule for rule in pack.rules if pack.pipelines["elastic"].absence(rule) is None]
    names = {rule.name for rule in built} & (kinds() if whole else sample())
    cases = all_cases(ROOT, [rule for rule in pack.rules if rule.name in names], pack.sources)
    events = [
        Event(f"{rule}/{event.id}", SOURCES[event.source.name], event.record)
        for rule, listed in cases.items()
        for case in listed
        for event in case.events
    ]
    variables = {"keeps_item_owner": keeps_owner}
    by_documents = _hits(Store, names, events, variables)
    assert sum(len(hit.events) for hit in by_documents) > 100
    assert any(hit.group for hit in by_documents)
    assert _hits(ColumnStore, names, events, variables) == by_documents


@pytest.mark.parametrize(
    "said, there",
    [("start", True), (["start"], True), ([""], True), ("", False), ([None], False), ([], False)],
)
def test_a_list_is_there_if_it_has_a_value(said: object, there: bool) -> None:
    events = [Event("1", PROCESS, {"UtcTime": "2026-03-10 09:15:00.000", "EventType": said})]
    openers: Sequence[type[Store | ColumnStore]] = (Store, ColumnStore)
    for opener in openers:
        with opener(events, SOURCES.values()) as store:
            assert store.lucene("_exists_:event.type") == ({"1"} if there else set()), opener

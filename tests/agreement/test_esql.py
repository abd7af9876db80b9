"""The trap: one model of ES|QL that passes its own mistakes on.

The pack's ES|QL runs nowhere here but in a translation to SQL of our own. `support.esql` reads the same text
by another way, row by row from Elastic's documentation, sharing no code: over the same documents both must
give the same rows, or one of them is wrong. The documents are the ingest model's; the types of the fields are
what the pipeline states of the integrations' mappings, so that a field which is not mapped is an error here,
as it is in Elasticsearch, and not a null.

By default some hundred generated events; ``-m campaign`` takes thousands, and more rules.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv6Address
from typing import Any

import pytest

from agreement import esql_corpus
from agreement.esql_corpus import Query
from conftest import DIST, ROOT
from detection_pack.model.case import load_cases, log_source_of
from detection_pack.model.event import Event
from detection_pack.model.pack import Pack
from detection_pack.platforms.elastic.backend import queries
from detection_pack.platforms.elastic.conditions import stated_type
from detection_pack.platforms.elastic.documents import ingested
from detection_pack.platforms.elastic.hunts import load_hunts
from detection_pack.platforms.elastic.imports import load_rules, name_of
from detection_pack.platforms.elastic.store import Store
from support import generator
from support.elastic_rules import pipeline
from support.esql import Field, Index, Result, evaluate
from support.sources import tables

SEED = 20261126
#: What the mappings of the integrations say of every keyword field.
IGNORE_ABOVE = 1024
#: When a query runs that asks for the time: so soon after the pack's own events that their windows are in
#: reach, and when some no longer are.
NOW, LATER = datetime(2026, 3, 11, 9, 30, tzinfo=UTC), datetime(2026, 3, 11, 10, 30, tzinfo=UTC)


class Documents:
    """The same documents for both: a `Store` for the product, indices for the evaluator."""

    def __init__(self, events: Sequence[Event]) -> None:
        events = [event for event in events if event.time is None or event.time <= NOW]
        self.store = Store(events)
        self.store.esql("FROM *\n| STATS n = COUNT(*)")  # what the index refuses is left out now
        self._by_index: dict[str, list[Mapping[str, Any]]] = {}
        for identifier, index, _ in ingested(events):
            if identifier in self.store.documents:
                self._by_index.setdefault(index, []).append(self.store.documents[identifier])
        self._indices: dict[tuple[str, ...], list[Index]] = {}
        self._judged: dict[tuple[str, tuple[str, ...], datetime], Result] = {}

    def product(self, text: str, now: datetime = NOW) -> list[dict[str, Any]]:
        return self.store.esql(text, (None, now) if "NOW()" in text else (None, None))

    def judge(self, text: str, types: Mapping[str, str], now: datetime = NOW) -> Result:
        """All rows: the product's model knows no limit of rows either, and Kibana sets its own."""
        key = (text, tuple(sorted(types)), now)
        if key not in self._judged:
            self._judged[key] = evaluate(text, self._typed(types), default_rows=sys.maxsize, now=now)
        return self._judged[key]

    def _typed(self, types: Mapping[str, str]) -> list[Index]:
        """The indices, which exist even where there is no document. A field below ``parent.*`` is in the
        mapping from the first document on that has it."""
        key = tuple(sorted(types))
        if key not in self._indices:
            seen = {name for held in self._by_index.values() for document in held for name in document}
            kinds = {name: kind for name, kind in types.items() if not name.endswith(".*")}
            kinds |= {name: kind for name in seen - kinds.keys() if (kind := stated_type(types, name))}
            fields = {
                name: Field(kind, IGNORE_ABOVE if kind == "keyword" else None) for name, kind in kinds.items()
            }
            names = [*tables("elastic"), *(set(self._by_index) - set(tables("elastic")))]
            self._indices[key] = [Index(name, fields, self._by_index.get(name, ())) for name in names]
        return self._indices[key]


def disagreement(documents: Documents, query: Query, now: datetime = NOW) -> str:
    """What the two say differently; empty where they agree."""
    expected = documents.judge(query.text, query.types, now)
    found = documents.product(query.text, now)
    columns = list(expected.columns)
    if any(list(row) != columns for row in found):
        return f"columns {list(found[0])}, not {columns}"
    for rows in (found, expected.rows):
        times = [row["time"] for row in rows if "time" in row]
        present = [time for time in times if time is not None]
        if times != [None] * (len(times) - len(present)) + sorted(present, reverse=True):
            return "the rows are not sorted by time"
    theirs = Counter(tuple(map(plain, row.values())) for row in found)
    ours = Counter(tuple(map(plain, row.values())) for row in expected.rows)
    if theirs == ours:
        return ""
    some = [f"+ {row}" for row in list(theirs - ours)[:3]] + [f"- {row}" for row in list(ours - theirs)[:3]]
    return f"{len(found)} rows, expected {len(expected.rows)}\n" + "\n".join(some)


def plain(value: Any) -> object:
    """Comparable, and unlike for unlike types."""
    if isinstance(value, IPv6Address):
        return str(value.ipv4_mapped or value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return tuple(sorted(map(str, value)))
    return f"{value:.9g} (double)" if isinstance(value, float) else value


def shipped(pack: Pack) -> Iterator[Query]:
    """Every ES|QL of dist/: the queries, and those of the rules to import."""
    types = {
        rule.name: queries(rule, pipeline()).state["field_types"]
        for rule in pack.rules
        if rule.correlation or rule.tier == "investigation"
    }
    for path in sorted(DIST.glob("elastic/*/*.esql")):
        yield Query(path.name, path.read_text(encoding="utf-8"), types[path.stem])
    for rule in load_rules(DIST):
        if rule["type"] == "esql":
            yield Query(f"rules.ndjson {name_of(rule)}", rule["query"], types[name_of(rule)])
    for hunt in load_hunts(DIST):
        if hunt["type"] == "esql":
            yield Query(f"hunts.ndjson {name_of(hunt)}", hunt["query"], types[name_of(hunt)])


def cases_of(pack: Pack) -> list[Event]:
    """The events of tests/events."""
    found: dict[str, Event] = {}
    for rule in pack.rules:
        path = ROOT / "tests" / "events" / f"{rule.name}.yml"
        for case in load_cases(path, log_source_of(rule, pack.sources)):
            found |= {event.id: event for event in case.events}
    return list(found.values())


def events_of(pack: Pack, count: int) -> list[Event]:
    """Tests/events, and ``count`` generated ones: half around the pack's rules, half with every field."""
    return [
        *cases_of(pack),
        *generator.generate(count // 2, SEED),
        *esql_corpus.varied(count // 2, SEED),
    ]


@pytest.fixture(scope="module")
def documents(pack: Pack) -> Documents:
    """With the events of the rules that have ES|QL."""
    some = tuple(rule for rule in pack.rules if rule.correlation or rule.tier == "investigation")
    return Documents(events_of(replace(pack, rules=some), 200))


def disagreements(documents: Documents, asked: Sequence[Query]) -> list[str]:
    return [f"{query.name}: {found}" for query in asked if (found := disagreement(documents, query))]


def test_what_is_shipped(pack: Pack, documents: Documents) -> None:
    asked = list(shipped(pack))
    assert len(asked) >= 2
    assert disagreements(documents, asked) == []
    rows = {query.name: len(documents.judge(query.text, query.types).rows) for query in asked}
    assert min(rows.values()) > 5, rows


def test_windows_that_the_look_back_may_have_cut(pack: Pack, documents: Documents) -> None:
    asked = [query for query in shipped(pack) if "NOW()" in query.text]
    assert len(asked) >= 5
    assert [found for query in asked if (found := disagreement(documents, query, LATER))] == []
    counts = [
        [len(documents.judge(query.text, query.types, now).rows) for now in (NOW, LATER)] for query in asked
    ]
    assert any(0 < later < soon for soon, later in counts)


@pytest.fixture(scope="module")
def fewer_documents(pack: Pack) -> Documents:
    """Without the events of rules outside the core, which the rules of the corpus do not read."""
    core = tuple(rule for rule in pack.rules if rule.tier == "core")
    return Documents(events_of(replace(pack, rules=core), 700))


@pytest.mark.parametrize("every_turn", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_every_kind_of_correlation(every_turn: bool, fewer_documents: Documents) -> None:
    documents = fewer_documents
    asked = [
        query
        for query in esql_corpus.own()
        if every_turn or query.name.startswith("several_") or query.name.endswith("_1")
    ]
    assert disagreements(documents, asked) == []
    found: dict[str, int] = {}
    for query in asked:
        rows = len(documents.judge(query.text, query.types).rows)
        condition = query.name.rpartition("_")[0]
        found[condition] = found.get(condition, 0) + rows
    assert [condition for condition, rows in found.items() if not rows] == ["audit_long_value"]


def test_strangers_conditions() -> None:
    _agree_on_strangers(25)


def _agree_on_strangers(count: int) -> None:
    asked = list(esql_corpus.strangers(count, SEED))
    assert len(asked) > count // 2
    documents = Documents([event for stranger in asked for event in stranger.events])
    assert disagreements(documents, [stranger.query for stranger in asked]) == []


@pytest.mark.campaign
def test_more_events_and_every_query(pack: Pack) -> None:
    documents = Documents(events_of(pack, 2_500))
    asked = [*shipped(pack), *esql_corpus.own()]
    assert disagreements(documents, asked) == []


@pytest.mark.campaign
def test_many_strangers_conditions() -> None:
    _agree_on_strangers(150)

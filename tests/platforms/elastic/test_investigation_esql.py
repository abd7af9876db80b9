"""The trap: an ES|QL query for a person that finds something else than the Lucene beside it.

Each stands in dist/elastic/investigation, and is executed on the events of its rule, each at a time of its
own, so that a row says which event it is.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from conftest import DIST, ROOT
from detection_pack.model.case import events_file, load_cases, log_source_of
from detection_pack.model.pack import Pack
from detection_pack.platforms.elastic.store import Store
from support.rule_sample import sample

FILES = sorted(DIST.glob("elastic/investigation/*.esql"))
START = datetime(2026, 3, 10, tzinfo=UTC)
ALWAYS = {"account_in_mailboxes", "address_in_mailboxes", "client_in_google"}


def test_every_investigation_query_has_one(pack: Pack) -> None:
    asked = [rule for rule in pack.rules if rule.tier == "investigation"]
    there = {rule.name for rule in asked if pack.pipelines["elastic"].absence(rule) is None}
    assert {path.stem for path in FILES} == there != set()


@pytest.mark.parametrize(
    "name",
    [pytest.param(p.stem, marks=() if p.stem in ALWAYS | sample() else pytest.mark.campaign) for p in FILES],
)
def test_it_finds_what_its_rule_must_find_and_nothing_else(name: str, pack: Pack) -> None:
    rule = pack.rule(name)
    cases = load_cases(events_file(ROOT, name), log_source_of(rule, pack.sources))
    events = {event.id: case.expected_of("elastic") for case in cases for event in case.events}
    with Store([event for case in cases for event in case.events], pack.sources.values()) as plain:
        held = list(plain.documents)
    times = {identity: START + timedelta(minutes=n) for n, identity in enumerate(sorted(held))}
    listed = [event for case in cases for event in case.events]
    with Store(listed, pack.sources.values(), times=times) as store:
        text = (DIST / "elastic" / "investigation" / f"{name}.esql").read_text(encoding="utf-8")
        rows = store.esql(text)
    moments = {moment: identity for identity, moment in times.items()}
    found = [moments[row["@timestamp"]] for row in rows]
    assert sorted(found) == sorted(identity for identity, matches in events.items() if matches)
    shown = [row["@timestamp"] for row in rows]
    assert shown == sorted(shown, reverse=True)

"""The trap: a key that a query reads and nobody loads is an attack that nobody sees.

What a `Probe` notes must be all that the engines read, so that records with these keys alone give the same
rows as the whole ones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import duckdb
import pytest

from conftest import ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import Clock, Event, Hit
from detection_pack.model.pack import load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.platforms.platform import Run, platform
from detection_pack.platforms.records import Probe, Records, Table, connected, records_of
from detection_pack.platforms.rows import ingest
from detection_pack.replay.verdict import all_cases, clock_for
from support.rule_sample import kinds, sample
from support.sources import M365, SOURCES

CLOCK = Clock(datetime(2026, 4, 1, tzinfo=UTC), "30d")


def executed(name: str, rules: Collection[str], events: Sequence[Event] | Records, clock: Clock) -> list[Hit]:
    here = platform(name)
    entries = [entry for entry in rule_entries(ROOT / "dist") if here.own(entry) and entry.name in rules]
    hits = here.run(Run(ROOT / "dist", entries, events, clock, SOURCES.values(), exact_only=True))
    return sorted(hits, key=lambda hit: (hit.rule, hit.artefact, str(hit.group), str(hit.window)))


def only(records: Records, wanted: dict[str, set[str]]) -> Records:
    """The same records with these keys as columns and nothing else."""
    connection = connected()
    tables = {}
    for source in records.sources:
        keys = sorted(wanted[source.name])
        tables[source.name] = Table(f"raw_{source.name}", {key: f"k{n}" for n, key in enumerate(keys)})
        listed = "".join(f", k{n} JSON" for n, _ in enumerate(keys))
        connection.execute(
            f"CREATE TABLE raw_{source.name}(_id VARCHAR, _time TIMESTAMP, _record JSON{listed})"
        )
        rows = records.cursor().execute(f"SELECT _id, _time, _record FROM raw_{source.name}").fetchall()
        whole = [json.loads(text) for _, _, text in rows]
        held = [[json.dumps(one[key]) if one.get(key) is not None else None for one in whole] for key in keys]
        listed = "".join(", unnest(?::VARCHAR[])" for _ in keys)
        connection.execute(
            f"INSERT INTO raw_{source.name}"
            f" SELECT unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[]), NULL{listed}",
            [[identifier for identifier, *_ in rows], [time for _, time, _ in rows], *held],
        )
    return Records(connection, records.sources, tables)


@pytest.mark.parametrize("rules", ["some", pytest.param("kinds", marks=pytest.mark.campaign)])
@pytest.mark.parametrize("name", PLATFORMS)
def test_the_keys_that_a_probe_notes_are_enough(name: str, rules: str) -> None:
    pack = load_pack(ROOT)
    asked = sample() if rules == "some" else kinds()
    cases = all_cases(ROOT, pack.rules, pack.sources)
    # The ids of cases are unique in a file only.
    by_rule = [
        Event(f"{rule}/{event.id}", SOURCES[event.source.name], event.record)
        for rule, listed in cases.items()
        if rule in asked
        for case in listed
        for event in case.events
    ]
    probe = Probe(SOURCES.values())
    executed(name, asked, probe, CLOCK)
    whole = records_of(by_rule, SOURCES.values())
    clock = clock_for(by_rule)
    assert probe.whole == set()
    some = executed(name, asked, only(whole, probe.wanted), clock)
    everything = executed(name, asked, whole, clock)
    assert sum(len(hit.events) for hit in everything) > 100
    assert some == everything


def test_a_probe_notes_what_only_a_filter_reads() -> None:
    probe = Probe([M365])
    cursor = probe.cursor()
    cursor.execute(f"CREATE TEMP VIEW here AS {probe.raw(M365)}")
    probe.execute(cursor, "SELECT count(*) FROM here WHERE \"UserId\" ->> '$' = 'a'")
    assert probe.wanted == {"m365": {"UserId"}} and probe.whole == set()
    probe.execute(cursor, "SELECT \"Operation\" FROM here WHERE _record ->> '$.x' = 'a'")
    assert probe.wanted == {"m365": {"UserId", "Operation"}} and probe.whole == {"m365"}


def test_a_key_that_no_field_declares_is_noted_and_taken_from_the_whole() -> None:
    probe = Probe([M365])
    assert probe.key(M365, "a/b~c\"d'e") == "NULL::JSON"
    assert probe.wanted["m365"] == {"a/b~c\"d'e"}
    event = Event("1", M365, {"CreationTime": "2026-03-10T09:15:00", "a/b~c\"d'e": "x", "n": None})
    records = records_of([event])
    sql = f"SELECT {records.key(M365, chr(97) + chr(47) + 'b~c' + chr(34) + 'd' + chr(39) + 'e')} ->> '$'"
    assert records.cursor().execute(f"{sql} FROM raw_m365").fetchall() == [("x",)]
    absent = f"SELECT {records.key(M365, 'n')} ->> '$', {records.key(M365, 'nope')} FROM raw_m365"
    assert records.cursor().execute(absent).fetchall() == [(None, None)]


def test_the_span_is_that_of_all_sources() -> None:
    first = Event("1", M365, {"CreationTime": "2026-03-10T09:15:00"})
    last = Event("2", SOURCES["process_creation"], {"UtcTime": "2026-03-12 09:15:00.5"})
    none = Event("3", M365, {"CreationTime": "yesterday"})
    span = records_of([first, last, none]).span()
    assert span == (
        datetime(2026, 3, 10, 9, 15, tzinfo=UTC),
        datetime(2026, 3, 12, 9, 15, 0, 500000, tzinfo=UTC),
    )
    assert records_of([none]).span() is None and records_of([]).span() is None


@pytest.mark.parametrize("made", [lambda: Probe(SOURCES.values()), lambda: records_of([], SOURCES.values())])
def test_no_statement_reaches_outside(made: object) -> None:
    cursor = made().cursor()  # type: ignore[operator]
    for statement in ("SELECT * FROM read_text('/etc/hostname')", "SET threads = 1", "ATTACH 'x.db'"):
        with pytest.raises(duckdb.Error):
            cursor.execute(statement).fetchall()


def test_two_engines_of_one_run_do_not_see_each_other() -> None:
    records = records_of([Event("1", M365, {"CreationTime": "2026-03-10T09:15:00", "UserId": "a@b.c"})])
    one, other = records.cursor(), records.cursor()
    views = [ingest(cursor, "defender", records)["CloudAppEvents"] for cursor in (one, other)]
    assert views[0] != views[1]
    for cursor, [view] in zip((one, other), views, strict=True):
        assert cursor.execute(f"SELECT AccountId FROM {view}").fetchall() == [("a@b.c",)]

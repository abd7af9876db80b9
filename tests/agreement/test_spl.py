"""The trap: one reading of Splunk's documentation, which everything that we ship is measured with.

No registry holds an engine for SPL, so the product models it in SQL. Here a second interpreter, written
from the documentation by another way (`support.spl`, with PCRE2 itself for the expressions), runs every
search that the pack ships and those of strangers' rules, on the same events: row for row the same, and the
same whether PCRE reads characters or bytes, since it is not documented which of them Splunk has it do.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import corpus
import generator
from community_events import records
from conftest import DIST, ROOT
from detection_pack.build import make
from detection_pack.cli import main
from detection_pack.events import Event, parse_time
from detection_pack.pack import Pack, load_pack
from detection_pack.replay import all_cases, clock_for
from hostile_rules import FOLDER, TIME, expectations
from support.spl_agreement import Agreement, Bench, searches_of

COUNT, CAMPAIGN, SEED = 1_000, 10_000, 20261126
#: Strangers' rules that are built, the events of each, and how many rules share a bench.
RULES, EVENTS_EACH, TOGETHER = 60, 8, 20
CAMPAIGN_RULES = 300
NOW = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def agreed(agreement: Agreement, rows: int, refused: int = 0) -> None:
    assert agreement.disagreements == []
    assert len(agreement.refused) <= refused, agreement.refused
    assert agreement.rows >= rows


# ---- what the pack ships ---------------------------------------------------------------------------------


def test_every_search_of_the_pack_on_its_own_events(pack: Pack) -> None:
    agreement = Agreement()
    for name, cases in all_cases(ROOT, pack.rules).items():
        events = [event for case in cases for event in case.events]
        clock = clock_for(events)
        bench = Bench(events, clock.now)
        for search in searches_of(files_of(DIST), clock.lookback):
            if name in search.name or search.name.count("/") == 1:
                bench.compare(search, agreement)
    agreed(agreement, 100)


def generated(count: int, seed: int) -> None:
    bench, agreement = Bench(generator.generate(count, seed), generator.END), Agreement()
    for search in searches_of(files_of(DIST)):
        bench.compare(search, agreement)
    names = {p.relative_to(DIST).as_posix() for p in (DIST / "splunk").rglob("*.spl")}
    assert agreement.searched == 2 * len(names) - 1  # the union is not among the saved searches
    agreed(agreement, count // 2)


def test_every_search_of_the_pack_on_generated_events() -> None:
    generated(COUNT, SEED)


@pytest.mark.campaign
def test_every_search_of_the_pack_on_many_generated_events() -> None:
    generated(CAMPAIGN, SEED + 1)


# ---- strangers' rules ------------------------------------------------------------------------------------


def strangers(folder: Path, count: int, seed: int) -> None:
    """Rules in the style of a community's, each on the events that its own values call for."""
    corpus.write(folder, count, seed)
    pack = load_pack(ROOT, folder, [])
    built = make(pack, keep_going=True)
    refused = {finding.path for finding in built.refused}
    rules = [rule for rule in pack.rules if str(rule.path) not in refused]
    searches = list(searches_of(built.files))
    agreement = Agreement()
    for start in range(0, len(rules), TOGETHER):
        some = rules[start : start + TOGETHER]
        events = [event for rule in some for event in made(rule.name, rule.main.data["detection"])]
        bench = Bench([*events, *generator.generate(30, start)], NOW + timedelta(hours=8))
        names = {rule.name for rule in some}
        for search in searches:
            if search.name.rpartition("/")[2].partition(".")[0] in names:
                bench.compare(search, agreement)
    assert agreement.searched >= 2 * len(rules) and len(rules) >= 0.85 * count
    agreed(agreement, 4 * count)


def made(name: str, detection: Mapping[str, object]) -> Iterator[Event]:
    try:
        listed = list(records(detection, random.Random(name), EVENTS_EACH))
    except (AttributeError, KeyError):  # a detection that is no process creation's
        return
    for number, record in enumerate(listed):
        yield Event(f"{name} {number}", "process", record)


def test_strangers_rules(tmp_path: Path) -> None:
    strangers(tmp_path, RULES, 4)


@pytest.mark.campaign
def test_many_strangers_rules(tmp_path: Path) -> None:
    strangers(tmp_path, CAMPAIGN_RULES, 5)


def test_hostile_rules_and_correlations(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["--root", str(ROOT), "build", "--rules", str(FOLDER), "--out", str(out), "--keep-going"]
    with redirect_stderr(io.StringIO()):
        assert main(command) == 1
    converted = {name: about for name, about in expectations().items() if about.refused is None}
    events = [e for name, about in converted.items() for case in about.events(name).values() for e in case]
    moment = parse_time(TIME)
    assert moment is not None
    bench, agreement = Bench(events, moment + timedelta(seconds=1)), Agreement()
    for search in searches_of(files_of(out)):
        bench.compare(search, agreement)
    assert agreement.searched >= 2 * len(converted)
    agreed(agreement, 2 * len(converted))

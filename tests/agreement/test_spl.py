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

from conftest import DIST, ROOT
from detection_pack.build.dist import make
from detection_pack.cli import main
from detection_pack.languages.spl.spl_characters import TERM_END, TERM_START
from detection_pack.model.event import Event
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.record_time import parse_time
from detection_pack.replay.verdict import all_cases, clock_for
from support import corpus, generator
from support.community_events import records
from support.hostile_rules import FOLDER, TIME, expectations
from support.sources import M365, PROCESS
from support.spl_agreement import Agreement, Bench, searches_of

COUNT, CAMPAIGN, SEED = 1_000, 10_000, 20261126
#: The search over all rules of core.
UNION = "splunk/remote_email_collection.spl"
#: Strangers' rules that are built, the events of each, and how many rules share a bench.
RULES, EVENTS_EACH, TOGETHER = 40, 8, 20
CAMPAIGN_RULES = 300
NOW = datetime(2026, 3, 10, 18, 0, tzinfo=UTC)
#: What events at random seldom have: a quotation mark beside a term, which `\\p{L}` takes for a letter where
#: bytes are read; process creations without an account or an image; two that differ in their time alone.
_AUDITED = {
    "CreationTime": "2026-03-10T09:00:00",
    "RecordType": 1,
    "Operation": "Search-Mailbox”",
    "Id": "quote",
}
_STARTED = {"UtcTime": "2026-03-10 09:00:00.000", "CommandLine": "powershell.exe Search-Mailbox"}
RARE = [
    Event("quote", M365, _AUDITED),
    Event("nobody", PROCESS, {**_STARTED, "Image": "C:\\powershell.exe"}),
    Event("no image", PROCESS, {**_STARTED, "User": "CONTOSO\\x"}),
    Event(
        "later", PROCESS, {**_STARTED, "Image": "C:\\powershell.exe", "UtcTime": "2026-03-10 09:30:00.000"}
    ),
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def agreed(agreement: Agreement, rows: int, refused: int = 0) -> None:
    assert agreement.disagreements == []
    assert len(agreement.refused) <= refused, agreement.refused
    assert agreement.rows >= rows


# ---- what the pack ships ---------------------------------------------------------------------------------


def test_every_search_of_the_pack_on_its_own_events(pack: Pack) -> None:
    agreement = Agreement()
    for name, cases in all_cases(ROOT, pack.rules, pack.sources).items():
        events = [event for case in cases for event in case.events]
        clock = clock_for(events)
        bench = Bench(events, clock.now)
        for search in searches_of(files_of(DIST), clock.lookback):
            if name in search.name or search.name == UNION:
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


#: A search of the pack, what stands in it and what is put in its place. Events at random tell each apart.
CHANGES = {
    "bulk_cross_mailbox_access.spl": (
        ("matched_count>=", "matched_count>"),
        ("NOT (coalesce(", "(coalesce("),
        ('lower(coalesce(UserId,""))=', 'coalesce(UserId,"")='),
        ("MailboxOwnerUPN=lower(MailboxOwnerUPN)", "MailboxOwnerUPN=MailboxOwnerUPN"),
        ("dc(MailboxOwnerUPN)", "count(MailboxOwnerUPN)"),
        ("min(first_seen)", "max(first_seen)"),
        ("values(Operation)", "min(Operation)"),
        ("BY _time, UserId, ClientIP", "BY _time, UserId"),
        (' MailboxOwnerUPN!=""', ""),
        ("ClientIPAddress,ClientIP)", "ClientIP,ClientIP)"),
    ),
    "exchange_admin_cmdlet.spl": (
        (TERM_START, ""),
        (TERM_END, ""),
        (TERM_END, r"(?![\p{L}\p{N}])"),
        ("(?i)(?-i:(?<!", "(?-i:(?<!"),
        ("RecordType=1", "RecordType!=1"),
        ('"*Search-Mailbox*", ', ""),
        (r"\d{1,3}):\d+\z", r"\d{1,3})\z"),
    ),
    "onprem_powershell_collection.tstats.spl": (
        ("`endpoint_processes_summaries` ", ""),
        (" AND match(", " OR match("),
        ("null(),process_name)", "process_name,process_name)"),
        ("min(_time)", "max(_time)"),
        ("Processes.process Processes.process_name", "Processes.process_name"),
    ),
    "onprem_powershell_collection.raw.spl": (
        ("coalesce(Image,NewProcessName)", "NewProcessName"),
        (r'replace(process_path,"^.*[\x5c/]","")', "process_path"),
        (r"(?i)\A(?:", "(?i)(?:"),
    ),
}


def test_a_changed_search_is_noticed() -> None:
    # Few of the events are groups, which the bulk rule counts: those of many more.
    many = generator.generate(8 * COUNT, SEED)
    groups = [event for event in many[COUNT:] if "MailboxGuid" in event.record]
    bench = Bench([*many[:COUNT], *groups, *RARE], generator.END)
    searches = {search.name.rpartition("/")[2]: search for search in searches_of(files_of(DIST))}
    unnoticed = []
    for name, changes in CHANGES.items():
        for old, new in changes:
            text = searches[name].text
            assert old in text, f"{name}: {old}"
            agreement = Agreement()
            bench.compare(searches[name], agreement, text.replace(old, new))
            if not agreement.disagreements:
                unnoticed.append((name, old, new))
    assert unnoticed == []


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
        bench = Bench([*events, *generator.generate(30, start)], NOW)
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
        yield Event(f"{name} {number}", PROCESS, record)


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

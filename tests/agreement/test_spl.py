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
from support.rule_sample import core_and_one_of_each_source, sample
from support.sources import M365, PROCESS
from support.spl_agreement import Agreement, Bench, searches_of

COUNT, CAMPAIGN, SEED = 500, 5_000, 20261126
#: Fewer do not tell each change of a search apart.
TELLING = 1_000
#: The search over all rules of core.
UNION = "splunk/remote_email_collection.spl"
#: Strangers' rules that are built, the events of each, and how many rules share a bench.
RULES, EVENTS_EACH, TOGETHER = 15, 8, 20
CAMPAIGN_RULES = 150
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


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_every_search_of_the_pack_on_its_own_events(whole: bool, pack: Pack) -> None:
    """In the ordinary run those of the core and of one rule of each other log source; the
    union, which is of the core, on events of the core."""
    agreement, files = Agreement(), files_of(DIST)
    built = {Path(path).stem for path in files if path.startswith("splunk/queries/")}
    names = built if whole else core_and_one_of_each_source(pack, built)
    rules = [rule for rule in pack.rules if rule.name in names]
    core = {rule.name for rule in rules if rule.tier == "core"}
    for name, cases in all_cases(ROOT, rules, pack.sources).items():
        events = [event for case in cases for event in case.events]
        clock = clock_for(events)
        bench = Bench(events, clock.now)
        for search in searches_of(files, clock.lookback):
            if name in search.name or (search.name == UNION and (whole or name in core)):
                bench.compare(search, agreement)
    assert agreement.searched >= 2 * len(names)
    agreed(agreement, 100)


@pytest.mark.parametrize(
    ("count", "whole"), [(COUNT, False), pytest.param(CAMPAIGN, True, marks=pytest.mark.campaign)]
)
def test_every_search_of_the_pack_on_generated_events(count: int, whole: bool) -> None:
    """In the ordinary run those of the rules of the sample, and the union."""
    bench, agreement = Bench(generator.generate(count, SEED + whole), generator.END), Agreement()
    paths = {path.relative_to(DIST).as_posix() for path in (DIST / "splunk").rglob("*.spl")}
    asked = {path for path in paths if whole or path == UNION or rule_in(path) in sample()}
    searches = [search for search in searches_of(files_of(DIST)) if whole or rule_in(search.name) in sample()]
    searches += [search for search in searches_of(files_of(DIST)) if search.name == UNION and not whole]
    for search in sorted(searches, key=lambda search: search.name.rpartition("/")[2]):
        bench.compare(search, agreement)
    assert agreement.searched == 2 * len(asked) - 1  # the union is not among the saved searches
    agreed(agreement, count // 2)


def rule_in(name: str) -> str:
    """The rule of an artefact, or of a saved search."""
    return name.rpartition("/")[2].partition(".")[0]


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
        ("span=1s", "span=1h"),
        ("Processes.process Processes.process_name", "Processes.process_name"),
    ),
    "onprem_powershell_collection.raw.spl": (
        ("coalesce(Image,NewProcessName,New_Process_Name)", "NewProcessName"),
        (r'replace(process_path,"^.*[\x5c/]","")', "process_path"),
        (r"(?i)\A(?:", "(?i)(?:"),
    ),
}


def test_a_changed_search_is_noticed() -> None:
    # Few of the events are groups, which the bulk rule counts: those of many more.
    many = generator.generate(8 * TELLING, SEED)
    groups = Bench([event for event in many if "MailboxGuid" in event.record], generator.END)
    others = Bench([*many[:TELLING], *RARE], generator.END)
    searches = {search.name.rpartition("/")[2]: search for search in searches_of(files_of(DIST))}
    unnoticed = []
    for name, changes in CHANGES.items():
        bench = groups if name == "bulk_cross_mailbox_access.spl" else others
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


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.campaign)])
def test_hostile_rules_and_correlations(every: int, tmp_path: Path) -> None:
    """In the ordinary run the correlations, and one of five other rules."""
    out = tmp_path / "out"
    command = ["--root", str(ROOT), "build", "--rules", str(FOLDER), "--out", str(out), "--keep-going"]
    with redirect_stderr(io.StringIO()):
        assert main(command) == 1
    listed = {name: about for name, about in expectations().items() if about.refused is None}
    converted = {
        name: about
        for number, (name, about) in enumerate(listed.items())
        if about.correlation or number % every == 0
    }
    events = [e for name, about in converted.items() for case in about.events(name).values() for e in case]
    moment = parse_time(TIME)
    assert moment is not None
    bench, agreement = Bench(events, moment + timedelta(seconds=1)), Agreement()
    for search in searches_of(files_of(out)):
        if rule_in(search.name) in converted:
            bench.compare(search, agreement)
    assert agreement.searched >= 2 * len(converted)
    agreed(agreement, 2 * len(converted))

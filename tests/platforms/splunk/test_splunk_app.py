"""The trap: an app that installs and then finds nothing, or something else than the pack's own queries.

A search that a .conf file cuts at a backslash, a title that starts a stanza of its own, an empty allow-list
that drops every result, an accelerated data set that fills absent fields: each is executed here out of the
archive, as it is shipped.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import math
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given as any_of
from hypothesis import settings
from hypothesis import strategies as st

from conftest import DIST, ROOT
from detection_pack.languages.conf import Stanzas, conf_text, one_line, read_conf
from detection_pack.languages.spl.spl_parser import UnsupportedSpl, macros_of
from detection_pack.languages.spl.spl_steps import Lookup
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.pack import Pack
from detection_pack.model.pipeline import Pipeline, load_pipelines
from detection_pack.model.rule import BY_HAND, INVESTIGATION, Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.arrivals import Arrival
from detection_pack.platforms.platform import Run
from detection_pack.platforms.splunk.app import (
    ALLOWLIST_HEADER,
    APP,
    App,
    allowlist,
    exclusion_search,
    open_app,
)
from detection_pack.platforms.splunk.archive import tgz
from detection_pack.platforms.splunk.imports import (
    ON_DATA_SET,
    ON_RAW_EVENTS,
    literal,
    saved_searches,
    saved_searches_text,
)
from detection_pack.platforms.splunk.query import SplunkQuery, exclusions, queries
from detection_pack.platforms.splunk.run import Row, Workspace
from detection_pack.platforms.splunk.run import run_app as run_opened
from detection_pack.platforms.splunk.schedule import alerts, runs
from detection_pack.replay.verdict import all_cases, clock_for
from judges import require
from support.engines import execute, macros_conf, of_platform, run_app, run_spl
from support.rule_sample import kinds, sample
from support.rules import entries, given
from support.sources import BY_KIND
from support.spl import UTF, Index, Table
from support.spl import Row as InterpretedRow
from support.spl import run as interpret

ALLOWLIST, EXCLUSION, EXCLUSIONS = allowlist(), exclusion_search(), exclusions()
NOW = Clock(datetime(2024, 2, 1, 18, 0, tzinfo=UTC))
PROCESS = {"product": "windows", "category": "process_creation"}


@functools.cache
def no_appinspect() -> str | None:
    """Why Splunk's AppInspect cannot be asked; None if it can."""
    try:
        import splunk_appinspect.main  # noqa: F401
    except ImportError as error:
        return f"splunk-appinspect cannot be imported ({error}); it needs the system's libmagic"
    return None


def splunk_reads(text: str) -> Stanzas:
    """A .conf file as Splunk's own reader in AppInspect sees it, which must find no fault in it."""
    require(no_appinspect())
    from splunk_appinspect.configuration_file import ConfigurationFile
    from splunk_appinspect.configuration_parser import configuration_lexer, parse

    found = parse(text, ConfigurationFile(), configuration_lexer)
    assert not list(found.errors)
    return {
        section.name: {name: option.value for name, option in section.options.items()}
        for section in found.sections()
    }


def packed(path: Path) -> dict[str, str]:
    return packed_bytes(path.read_bytes())


def packed_bytes(content: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        names = [m for m in archive.getmembers() if m.isfile()]
        return {m.name.partition("/")[2]: archive.extractfile(m).read().decode() for m in names}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def app_path(pack: Pack) -> Path:
    return DIST / "splunk" / f"{APP}-{pack.version}.tgz"


@pytest.fixture(scope="module")
def files(app_path: Path) -> dict[str, str]:
    return packed(app_path)


@pytest.fixture(scope="module")
def own_events(pack: Pack) -> dict[str, list[Event]]:
    """The events of each rule."""
    cases = all_cases(ROOT, pack.rules, pack.sources)
    return {name: [event for case in listed for event in case.events] for name, listed in cases.items()}


@pytest.fixture(scope="module")
def events(own_events: dict[str, list[Event]]) -> list[Event]:
    return [event for listed in own_events.values() for event in listed]


@dataclass(frozen=True)
class Taken:
    """Rules of the app, and their events."""

    rules: list[RuleEntry]
    events: list[Event]
    every_kind: bool

    @functools.cached_property
    def clock(self) -> Clock:
        return clock_for(self.events)

    @functools.cached_property
    def plain(self) -> list[Hit]:
        """What the queries find."""
        return run_spl(DIST, self.rules, self.events, self.clock)

    @functools.cached_property
    def found(self) -> list[Hit]:
        """What the app finds."""
        return run_app(DIST, self.rules, self.events, self.clock)


@pytest.fixture(scope="module", params=["some", pytest.param("kinds", marks=pytest.mark.campaign)])
def taken(request: pytest.FixtureRequest, pack: Pack, own_events: dict[str, list[Event]]) -> Taken:
    rules = [
        e for e in entries(pack, "splunk") if e.name in (kinds() if request.param == "kinds" else sample())
    ]
    events = [event for rule in rules for event in own_events[rule.name]]
    return Taken(rules, events, request.param == "kinds")


# --- the .conf files -----------------------------------------------------------------------------------


def test_saved_searches_are_the_query_files_but_for_what_schedules_need(
    files: dict[str, str], pack: Pack
) -> None:
    """The key of an alert, whom and what it is about, and of a correlation what has not alerted before."""
    text = files["default/savedsearches.conf"]
    shipped = {path.stem: path.read_bytes() for path in (DIST / "splunk" / "queries").glob("*.spl")}
    rules = {rule.name: rule for rule in given(pack, "splunk")}
    for reader in (read_conf, splunk_reads):
        found = {name: (s["search"] + "\n").encode() for name, s in reader(text).items()}
        own = {name: rules[name.partition(".")[0]] for name in found}
        forms = {name: queries(rule, pipeline()) for name, rule in rules.items()}
        assert {
            name: as_a_query(search, own[name], forms[own[name].name]) for name, search in found.items()
        } == shipped


def as_a_query(search: bytes, rule: Rule, forms: SplunkQuery) -> bytes:
    """The search without what a schedule adds: the column AlertKey, those for assets and identities, what
    leaves out bursts that have alerted, what leaves out the windows at the start of the look-back, and of the
    data set the order."""
    if rule.tier in BY_HAND:
        assert b"AlertKey" not in search
        return search
    if b"\n| tstats " in b"\n" + search:
        search, newest_first, rest = search.rpartition(b"| sort 0 -_time\n")
        assert newest_first and not rest
    if rule.correlation is not None:
        assert forms.scheduled_search is not None
        before = forms.scheduled_search.encode() + b"\n"
        assert search.startswith(before)
        search = search.replace(before, forms.search.encode() + b"\n")
    if forms.entities:
        assert search.count(b"\n| eval " + next(iter(forms.entities)).encode() + b"=") >= 1
        named = ", ".join(f"{name}={text}" for name, text in forms.entities.items())
        assert search.count(f"\n| eval {named}\n".encode()) == 1
        search = search.replace(f"\n| eval {named}\n".encode(), b"\n")
        search = search.replace(f", {', '.join(forms.entities)}, AlertKey".encode(), b", AlertKey")
    lines = search.split(b"\n")
    (made,) = [n for n, line in enumerate(lines) if line.startswith(b"| eval AlertKey=")]
    (shown,) = [line for line in lines if line.startswith(b"| table ")]
    assert shown.endswith(b", AlertKey") and search.count(b"AlertKey") == 2
    edge = f"| where _time-`{rule.name}_step`>=`{rule.name}_since`".encode()
    added = [lines[made]]
    if rule.correlation is not None and rule.correlation.overlapping is not None:
        added = [b"| addinfo", edge, lines[made]]
    first = made + 1 - len(added)
    assert lines[first : made + 1] == added and lines.count(edge) == len(added) // 2
    return b"\n".join(lines[:first] + lines[made + 1 :]).replace(b", AlertKey", b"")


def test_both_readers_agree_on_every_file(files: dict[str, str]) -> None:
    confs = [text for path, text in files.items() if path.endswith(".conf")]
    assert len(confs) == 4
    for text in confs:
        assert splunk_reads(text) == read_conf(text)


def test_macros_are_those_of_the_queries_but_for_the_allow_list(files: dict[str, str], pack: Pack) -> None:
    app, plain = (
        macros_of(text)
        for text in (files["default/macros.conf"], (DIST / "splunk" / "macros.conf").read_text())
    )
    assert {name for name in plain if app[name] != plain[name]} == {EXCLUSIONS}
    assert app.keys() == plain.keys()
    assert plain[EXCLUSIONS] == "search *"
    filters = {name: text for name, text in plain.items() if name.endswith("_filter")}
    assert filters == {f"{rule.name}_filter": "search *" for rule in given(pack, "splunk")}


def test_the_edge_of_windows_that_overlap_is_the_start_of_the_look_back(pack: Pack) -> None:
    macros = macros_of((DIST / "splunk" / "macros.conf").read_text(encoding="utf-8"))
    for rule in given(pack, "splunk"):
        since = macros.get(f"{rule.name}_since")
        if rule.correlation is None or rule.correlation.overlapping is None:
            assert since is None
        else:
            assert since == f'relative_time(info_max_time, "{macros[f"{rule.name}_lookback"]}")'
            assert macros[f"{rule.name}_step"] == str(rule.correlation.overlapping.step)


def test_every_alert_is_scheduled_and_waits_to_be_enabled(files: dict[str, str], pack: Pack) -> None:
    found = read_conf(files["default/savedsearches.conf"])
    assert {name.partition(".")[0] for name in found} == {rule.name for rule in given(pack, "splunk")}
    assert set(found) >= {rule.name for rule in given(pack, "splunk")}
    for name, setting in found.items():
        rule = pack.rule(name.partition(".")[0])
        if rule.tier in BY_HAND:
            continue  # tests/platforms/test_hunts.py
        assert (setting["disabled"], setting["enableSched"]) == ("1", "1")
        assert setting["dispatch.earliest_time"] == f"-{reach(rule)}@h"
        # No run is left out; all that a run finds is one alert, but for the data set, which has no index
        # times.
        assert setting["realtime_schedule"] == "0"
        on_data_set = name.endswith(ON_DATA_SET)
        assert (setting["alert.digest_mode"], setting["alert.suppress"]) == (
            ("0", "1") if on_data_set else ("1", "0")
        )
        bounds = (setting.get("dispatch.index_earliest"), setting.get("dispatch.index_latest"))
        assert bounds == ((None, None) if on_data_set or rule.correlation else ("-65m@m", "-5m@m"))
        annotations = json.loads(setting["action.correlationsearch.annotations"])
        assert annotations["mitre_attack"] == list(rule.techniques)
        assert rule.tier != "core" or (rule.techniques, rule.level) == (("T1114.002",), "high")
        risk = json.loads(setting["action.risk.param._risk"])
        score = {"informational": 10, "low": 25, "medium": 50, "high": 75, "critical": 90}[rule.level]
        account = {"risk_object_field": "user", "risk_object_type": "user", "risk_score": score}
        # Who is at risk, and from where: what the rule knows of the two.
        assert (account in risk) == (rule.alert.user is not None)
        assert len(risk) == sum(one is not None for one in (rule.alert.user, rule.alert.source))
        entities = json.loads(setting["action.notable.param._entities"])
        assert entities == [one for one in risk if "risk_object_field" in one]
        named = [one.get("risk_object_field") or one["threat_object_field"] for one in risk]
        assert setting["action.notable.param.nes_fields"] == ",".join(named)
        assert setting["action.correlationsearch.detection_type"] == "ebd"
        metadata = json.loads(setting["action.correlationsearch.metadata"])
        assert metadata == {"deprecated": "0", "detection_id": rule.id}
        assert (setting["action.risk.param._risk_score"], setting["action.risk.param.verbose"]) == ("0", "0")
        assert "\n" not in setting["action.risk.param._risk"]
        assert str(rule.main.data["author"]) in setting["action.notable.param.rule_description"]
    # A minute is chosen by name alone; two of many rules may share one.
    core = [name for name in found if pack.rule(name.partition(".")[0]).tier == "core"]
    assert len({found[name]["cron_schedule"] for name in core}) == len(core)


def reach(rule: Rule) -> str:
    """How far back a search of the rule looks; where windows overlap, to where the windows of its look-back
    and the one before them begin, in whole hours."""
    seconds = timespan(rule.lookback) + 65 * 60
    if rule.correlation is not None and (windows := rule.correlation.overlapping) is not None:
        seconds += windows.width + windows.step
    return f"{math.ceil(seconds / 3600)}h"


def timespan(text: str) -> int:
    return int(text[:-1]) * {"m": 60, "h": 3600, "d": 86400}[text[-1]]


def test_version_and_name_are_the_packs(files: dict[str, str], pack: Pack) -> None:
    conf = read_conf(files["default/app.conf"])
    manifest = json.loads(files["app.manifest"])
    assert conf["id"] == {"name": APP, "version": pack.version}
    assert conf["launcher"]["version"] == pack.version == manifest["info"]["id"]["version"]
    assert conf["package"]["id"] == APP == manifest["info"]["id"]["name"]


NASTY = st.text(
    st.sampled_from(list("a[]=\\\n\r\t #;$|`\"'\0\x7f\x85\u2028é")), min_size=1, max_size=24
) | st.text(max_size=24)


@settings(max_examples=200, deadline=None)
@any_of(NASTY)
def test_no_text_can_start_a_stanza_or_a_key(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    written = conf_text({"a": {"one": f"x {one_line(text)}".strip(), "two": "2"}, "b": {"three": "3"}})
    found = read_conf(written)
    assert found == {"a": {"one": f"x {one_line(text)}".strip(), "two": "2"}, "b": {"three": "3"}}
    if no_appinspect() is None:
        assert splunk_reads(written) == found


@pytest.mark.parametrize("name", ["a]b", "[a", "a\nb", "", " a", "default", "DEFAULT"])
def test_a_name_that_cannot_be_a_stanza_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="stanza"):
        conf_text({name: {"a": "b"}})


@pytest.mark.parametrize("value", ["a\\", "a \\ ", "a\\\nb", "a\\ \nb", " a", "a\n", "a\rb", "\0"])
def test_a_value_that_would_be_read_otherwise_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        conf_text({"a": {"b": value}})


@pytest.mark.parametrize("key", ["", "a b", "a=b", "[a]", "a\n"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        conf_text({"a": {key: "b"}})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$token$", "$ token$"),
        ("$a$b$", "$ a$ b$"),
        ("costs $5 and $6", "costs $5 and $6"),
        ("$$", "$ $"),
        ("$result.x|n$", "$ result.x|n$"),
        (r"\\fs\c$\x", r"\\fs\c$\x"),
    ],
)
def test_a_rules_text_holds_no_token(text: str, wanted: str) -> None:
    assert literal(text) == wanted


# --- somebody else's rules -----------------------------------------------------------------------------


@functools.cache
def pipeline() -> Pipeline:
    return load_pipelines(ROOT)["splunk"]


def written(folder: Path, name: str = "case", **document: Any) -> Rule:
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return load_rule(path, "other", named_by_stem=True)


def process_rule(folder: Path, detection: str, **more: Any) -> SplunkQuery:
    made = written(
        folder, title="Case", logsource=PROCESS, detection=yaml.safe_load(detection), level="high", **more
    )
    return queries(made, pipeline())


def test_a_hostile_rule_stays_inside_its_stanza(tmp_path: Path) -> None:
    evil = "x]\n[evil]\nsearch = | delete\n$token$ \\"
    made = written(
        tmp_path,
        title=evil,
        description=evil,
        author=evil,
        confidence=evil,
        tags=["attack.t1114.002"],
        logsource=PROCESS,
        detection={"sel": {"CommandLine|contains": evil}, "condition": "sel"},
        alert={"type": evil, "detail": evil, "user": "User", "source": "Computer"},
    )
    query = queries(made, pipeline())
    stanzas = saved_searches(made, query)
    text = conf_text(stanzas)
    for reader in (read_conf, splunk_reads):
        found = reader(text)
        assert found == stanzas and list(found) == ["case", "case.tstats", "case.raw"]
    for setting in stanzas.values():
        actions = [v for k, v in setting.items() if k.startswith("action.") and "annotations" not in k]
        assert not any("$token$" in value for value in actions)
    (row,) = execute(
        query.text,
        [process("e", CommandLine=evil), process("n", CommandLine="x")],
        NOW,
        macros_of(macros_conf(query)),
    )
    assert row.event == "e" and row.values["DetectionType"] == evil


def test_a_rule_does_not_set_the_defaults_of_the_others(tmp_path: Path) -> None:
    detection = {"sel": {"CommandLine|contains": "x"}, "condition": "sel"}
    made = written(tmp_path, "default", title="T", logsource=PROCESS, detection=detection)
    assert made.name == "rule_default"
    assert saved_searches_text(made, queries(made, pipeline())).startswith("[rule_default]\n")


# --- the archive ---------------------------------------------------------------------------------------


def test_archive_is_the_same_whenever_it_is_made(app_path: Path, pack: Pack) -> None:
    made = {a.path: a.content for a in of_platform(pack, "splunk")}
    content = app_path.read_bytes()
    assert content == made[f"splunk/{app_path.name}"]
    assert content[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no time, no name
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()
    names = [m.name for m in members]
    assert names == sorted(names) and {name.split("/")[0] for name in names} == {APP}
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert member.mode == (0o755 if member.isdir() else 0o644)
    assert not [n for n in names if "/." in n or "/local" in n]


@pytest.mark.parametrize("size", [0, 1, 0xFFFF, 0x10000, 300_000])
def test_any_reader_can_open_it(size: int) -> None:
    content = bytes(i * 7 % 251 for i in range(size))
    made = tgz({"b/c.txt": content, "a.txt": b"x"})
    assert made == tgz({"a.txt": b"x", "b/c.txt": content})
    assert gzip.decompress(made)
    with tarfile.open(fileobj=io.BytesIO(made), mode="r:gz") as archive:
        assert archive.getnames() == ["a.txt", "b", "b/c.txt"]
        file = archive.extractfile("b/c.txt")
        assert file is not None and file.read() == content


@pytest.mark.parametrize("options", [["--mode", "precert"], ["--included-tags", "cloud"]], ids=" ".join)
def test_splunk_appinspect_finds_nothing(options: list[str], app_path: Path, tmp_path: Path) -> None:
    require(no_appinspect())
    report = tmp_path / "report.json"
    command = [str(Path(sys.executable).with_name("splunk-appinspect")), "inspect", str(app_path), *options]
    command += ["--output-file", str(report), "--data-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert report.is_file(), done.stdout + done.stderr
    found = json.loads(report.read_text(encoding="utf-8"))
    checks = [c for r in found["reports"] for g in r["groups"] for c in g["checks"]]
    said = {c["name"]: c["messages"] for c in checks if c["result"] not in ("success", "not_applicable")}
    assert said == {}
    assert sum(c["result"] == "success" for c in checks) > 50


# --- the app, executed ---------------------------------------------------------------------------------


def verdicts(hits: Sequence[Hit]) -> set[tuple[Any, ...]]:
    return {(h.rule, h.events, h.group, h.window, h.value) for h in hits if h.events or h.group}


def test_app_finds_what_the_queries_find(taken: Taken) -> None:
    rules, plain, hits = taken.rules, taken.plain, taken.found
    assert verdicts(hits) == verdicts(plain)
    assert {h.rule for h in hits} == {r.name for r in rules} and all(verdicts([h]) for h in hits)
    seen = {(hit.rule, len(hit.rows)) for hit in plain if hit.rows and hit.group is None}
    assert {
        (h.rule, len(h.rows))
        for h in hits
        if not h.artefact.endswith((ON_DATA_SET, ON_RAW_EVENTS)) and not h.group
    } == seen


def test_a_year_old_event_is_outside_the_shipped_time_range(taken: Taken) -> None:
    """In the ordinary run of one of three rules: rules of one look-back say it in the same words."""
    rules, events = taken.rules if taken.every_kind else taken.rules[::3], taken.events
    now = taken.clock.now
    later = Clock(now + timedelta(days=365))
    assert not verdicts(run_app(DIST, rules, events, later))
    recent = verdicts(run_app(DIST, rules, events, Clock(now)))
    found = verdicts(run_spl(DIST, rules, events, Clock(now)))
    # A scheduled correlation leaves bursts at the start of its look-back to the runs before.
    assert recent and recent <= found and all(group for _, _, group, *_ in found - recent)


@pytest.mark.parametrize(
    ("level", "number", "word"),
    [
        ("informational", "1", "informational"),
        ("low", "2", "low"),
        ("medium", "3", "medium"),
        ("high", "4", "high"),
        ("critical", "5", "critical"),
    ],
)
def test_severity_is_the_one_that_splunk_web_shows(
    level: str, number: str, word: str, tmp_path: Path
) -> None:
    """Splunk Web: 1 Info, 2 Low, 3 Medium, 4 High, 5 Critical; there is no 6."""
    detection = {"sel": {"CommandLine|contains": "x"}, "condition": "sel"}
    made = written(tmp_path, title="T", level=level, logsource=PROCESS, detection=detection)
    for setting in saved_searches(made, queries(made, pipeline())).values():
        found = (setting["alert.severity"], setting["action.notable.param.severity"])
        assert found == (number, word)


# --- alerts --------------------------------------------------------------------------------------------
# The app over 14 days: tests/agreement/test_splunk_schedule.py.

START = datetime(2024, 2, 1, tzinfo=UTC)


def at(hour: float) -> str:
    return (START + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M:%S")


def arrival(event: Event, hour: float) -> Arrival:
    return Arrival(event, START + timedelta(hours=hour))


def raised(stanza: str, arrivals: Sequence[Arrival], hours: int) -> list[tuple[datetime, Row]]:
    """The results of the alerts of hourly runs, each with when its run was due."""
    app = open_app(DIST)
    planned = runs(app.saved_searches[stanza], (START, START + timedelta(hours=hours)))
    return [(alert.run.due, row) for alert in alerts(app, stanza, arrivals, planned) for row in alert.rows]


def admin(name: str, hour: float, operation: str = "Search-Mailbox", **more: Any) -> Event:
    record = {"Id": name, "RecordType": 1, "Operation": operation, "UserId": "Ann@x.example", **more}
    return m365(name, at(hour), ClientIP="192.0.2.1", **record)


def test_different_acts_of_one_person_are_different_results() -> None:
    """Three cmdlets within a minute, the same one again in the same second, one that arrives a day late."""
    arrivals = [
        arrival(admin("1", 2.0), 2.1),
        arrival(admin("2", 2.01, "New-ComplianceSearch"), 2.1),
        arrival(admin("3", 2.01, "New-MailboxExportRequest"), 9.5),
        arrival(admin("4", 2.0), 2.1),
        arrival(admin("5", 3.0), 3.1),
        arrival(admin("6", 2.02, "Get-GlobalAddressList"), 26.02),
    ]
    found = raised("exchange_admin_cmdlet", arrivals, 52)
    assert sorted(event for _, row in found for event in row.events) == list("123456")
    (last,) = [row for due, row in found if due > START + timedelta(hours=20)]
    assert str(last.values["DetectionDetail"]).endswith(": Get-GlobalAddressList")


@pytest.mark.parametrize("form", ["", ON_DATA_SET, ON_RAW_EVENTS])
def test_a_command_started_again_is_another_alert(form: str) -> None:
    """The data set gives one row for both, and the same time to it, the first."""
    started = {"Image": "C:\\powershell.exe", "CommandLine": "powershell Search-Mailbox", "User": "D\\Ann"}
    arrivals = [
        arrival(Event(name, BY_KIND["process"], {"UtcTime": at(hour), "EventID": 1, **started}), hour)
        for name, hour in (("1", 2.0), ("2", 5.0))
    ]
    found = raised("onprem_powershell_collection" + form, arrivals, 52)
    assert len(found) == 2 and found[1][0] - found[0][0] == timedelta(hours=3)


def test_results_name_who_and_where_for_assets_and_identities(pack: Pack, taken: Taken) -> None:
    """``user``, and ``dest`` for a host or ``src`` for an address: what the columns show, several values
    apart."""
    seen = set()
    for hit in run_opened(open_app(DIST), Run(DIST, taken.rules, taken.events, clock_for(taken.events))):
        alert = pack.rule(hit.rule).alert
        for row in hit.rows if pack.rule(hit.rule).tier not in BY_HAND else ():
            place = "dest" if "dest" in row else "src" if "src" in row else ""
            seen.add(place)
            assert ("user" in row, bool(place)) == (alert.user is not None, alert.source is not None)
            for name, column in (("user", "UserId"), (place, "ClientIP")):
                if name in row:
                    value = row[name]
                    assert (", ".join(value) if isinstance(value, list) else value) == row[column]
            assert place != "dest" or alert.source == "Computer"
            assert place != "src" or alert.source != "Computer"
    assert seen >= {"dest", "src"}


def test_a_drill_down_finds_the_events_of_its_alert_and_no_others(taken: Taken) -> None:
    app, clock = open_app(DIST), clock_for(taken.events)
    workspace = Workspace(taken.events)
    plain = {hit.rule: hit.events for hit in run_spl(DIST, taken.rules, taken.events, clock)}
    alone = 0
    for rule in taken.rules:
        for stanza in (rule.name + form for form in ("", ON_DATA_SET, ON_RAW_EVENTS)):
            if stanza not in app.saved_searches:
                continue
            setting = app.saved_searches[stanza]
            if setting["enableSched"] == "0":
                continue  # a report raises nothing
            (drill_down,) = json.loads(setting["action.notable.param.drilldown_searches"])
            assert "earliest" not in drill_down["search"] and "_lookback" not in drill_down["search"]
            offsets = (drill_down["earliest_offset"], drill_down["latest_offset"])
            assert offsets == ("$info_min_time$", "$info_max_time$")
            macros = {**app.macros, f"{rule.name}_lookback": "-40d"}
            macros[f"{rule.name}_since"] = "(info_max_time-3456000)"
            window = (clock.now - timedelta(days=40), clock.now)
            rows = workspace.search(setting["search"], macros, clock.now, window, app.lookups)
            for row in rows[:3]:
                search = drill_down["search"].replace("$AlertKey$", str(row.values["AlertKey"]))
                assert "$" not in search
                found = {e for one in workspace.search(search, macros, clock.now, window) for e in one.events}
                if row.events:
                    assert found == set(row.events)
                else:
                    assert found
                alone += 0 < len(found) < len(plain.get(rule.name, found) or taken.events)
    assert alone > len(taken.rules) / 2


@pytest.mark.parametrize(
    ("lookback", "span", "windows", "earliest"),
    [
        # The rule's own, 65 minutes for the run that answers for an arrival, in whole hours.
        ("24h", None, None, "-26h@h"),
        ("90m", None, None, "-3h@h"),
        ("2d", None, None, "-50h@h"),
        ("24h", "15m", "clock", "-26h@h"),
        ("24h", "1h", "clock", "-26h@h"),
        ("24h", "4h", "clock", "-30h@d"),
        # And back to where the windows of the look-back and the one before them begin.
        ("24h", "15m", None, "-26h@h"),
        ("24h", "1h", None, "-27h@h"),
        ("24h", "4h", None, "-30h@h"),
    ],
)
def test_look_back_outlasts_what_a_run_waits_for(
    lookback: str, span: str | None, windows: str | None, earliest: str, tmp_path: Path
) -> None:
    detection = {"sel": {"Operation": "x"}, "condition": "sel"}
    source = {"product": "m365", "service": "exchange"}
    document = {"title": "T", "name": "base", "logsource": source, "detection": detection, "level": "low"}
    path = tmp_path / "case.yml"
    documents = [{**document, "lookback": lookback}]
    if span is not None:
        counted = {"type": "event_count", "rules": ["base"], "group-by": ["UserId"], "timespan": span}
        correlation = {**counted, "condition": {"gte": 5}}
        documents = [document, {"title": "C", "lookback": lookback, "correlation": correlation}]
        if windows is not None:
            documents[1]["windows"] = windows
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    made = load_rule(path, "other", named_by_stem=True)
    (setting,) = saved_searches(made, queries(made, pipeline())).values()
    assert setting["dispatch.earliest_time"] == earliest
    macros = macros_of(macros_conf(queries(made, pipeline())))
    assert macros["case_lookback"] == earliest


def test_throttle_of_the_data_set_outlasts_look_back_and_outage(tmp_path: Path) -> None:
    """What is in sight for 27 hours, in runs that may be a day late."""
    setting = read_conf(saved_searches_text(*_of_process(tmp_path)))["case.tstats"]
    assert setting["dispatch.earliest_time"] == "-26h@h"
    assert (setting["alert.digest_mode"], setting["alert.suppress.fields"]) == ("0", "AlertKey")
    assert setting["alert.suppress.period"] == "51h"


def _of_process(folder: Path) -> tuple[Rule, SplunkQuery]:
    detection = {"sel": {"CommandLine|contains": "x"}, "condition": "sel"}
    made = written(folder, title="T", logsource=PROCESS, detection=detection)
    return made, queries(made, pipeline())


def test_time_range_holds_where_the_search_names_none() -> None:
    listed = [m365(str(hour), f"2024-02-01T{hour}:00:00") for hour in (12, 14, 16)]
    window = (NOW.now - timedelta(hours=4), NOW.now - timedelta(hours=2))
    workspace = Workspace(listed)

    def found(spl: str) -> set[str | None]:
        return {row.event for row in workspace.search(spl, {}, NOW.now, window)}

    assert found("*") == {"14"}
    assert found("earliest=-10h latest=now") == {"12", "14", "16"}
    with pytest.raises(UnsupportedSpl, match="one time modifier of two"):
        found("earliest=-10h")


def m365(name: str, time: str = "2024-02-01T12:30:00", **record: Any) -> Event:
    return Event(name, BY_KIND["m365"], {"CreationTime": time, **record})


def process(name: str, **record: Any) -> Event:
    return Event(name, BY_KIND["process"], {"UtcTime": "2024-02-01 12:30:00.000", **record})


# --- exclusions ----------------------------------------------------------------------------------------


def test_what_is_asked_after_an_alert_is_answered_of_allowed_accounts_too(
    pack: Pack, files: dict[str, str]
) -> None:
    """The allow-list drops alerts, never what an account did."""
    stanzas = read_conf(files["default/savedsearches.conf"])
    call, by_tier = f"`{EXCLUSIONS}`", {True: 0, False: 0}
    for rule in given(pack, "splunk"):
        asked = rule.tier == INVESTIGATION
        query = queries(rule, pack.pipelines["splunk"])
        texts = [query.text, query.data_set_text, query.raw_text, *query.scheduled()]
        texts += [path.read_text() for path in (DIST / "splunk" / "queries").glob(f"{rule.name}.*spl")]
        texts += [one["search"] for name, one in stanzas.items() if name.partition(".")[0] == rule.name]
        for text in filter(None, texts):
            by_tier[asked] += 1
            assert (call in text) is not asked, rule.name
    assert min(by_tier.values()) > 12


def listing(app: App, *rows: dict[str, str]) -> App:
    return replace(app, lookups={ALLOWLIST: replace(app.lookups[ALLOWLIST], rows=rows)})


def test_empty_allow_list_drops_nothing_and_no_subsearch_can(files: dict[str, str], taken: Taken) -> None:
    assert files[f"lookups/{ALLOWLIST}.csv"] == ALLOWLIST_HEADER
    for text in (files["default/savedsearches.conf"], files["default/macros.conf"]):
        assert "NOT [" not in text and "inputlookup" not in text
    app = open_app(DIST)
    assert app.lookups[ALLOWLIST].rows == []
    without = replace(app, macros={**app.macros, EXCLUSIONS: "search *"})
    found = run_opened(without, Run(DIST, taken.rules, taken.events, taken.clock))
    assert verdicts(taken.found) == verdicts(found)


ALLOWED = [("Ann", ""), ("", "192.0.2.9"), ("", ""), ("Bob", "192.0.2.1")]


def test_a_row_with_an_empty_cell_drops_nothing_even_if_empty_equals_empty() -> None:
    """What Splunk makes of an empty cell is not documented: here it equals an empty value."""
    table = Table([{"UserId": user, "ClientIP": source} for user, source in ALLOWED], cased=False)
    results = [*ALLOWED, ("Ann", "192.0.2.1"), ("", "192.0.2.1")]
    index = Index(
        [
            InterpretedRow(
                {"_time": 1.0, "UserId": user, "ClientIP": source}, frozenset([f"{user}|{source}"])
            )
            for user, source in results
        ]
    )
    kept = interpret(f"* | {EXCLUSION}", index, {}, NOW.now.timestamp(), UTF, None, {ALLOWLIST: table})
    named = {f"{user}|{source}" for user, source in results}
    assert {event for row in kept for event in row.events} == named - {"Bob|192.0.2.1"}


def test_searches_outside_of_the_app_can_use_its_macros_and_its_allow_list(files: dict[str, str]) -> None:
    """Enterprise Security runs a drill-down in an app of its own; a definition in a private file is read by
    nobody else, so the guide writes through the one that the app exports."""
    meta = read_conf(files["metadata/default.meta"])
    exported = {name for name, setting in meta.items() if setting["export"] == "system"}
    assert exported == {"savedsearches", "macros", "lookups", "transforms"}
    assert read_conf(files["default/transforms.conf"])[ALLOWLIST]["filename"] == f"{ALLOWLIST}.csv"
    guide = (ROOT / "docs" / "import" / "splunk.md").read_text(encoding="utf-8")
    (written_by,) = [line for line in guide.split("\n") if "outputlookup" in line]
    assert written_by.startswith(f"| inputlookup {ALLOWLIST} | append ")
    columns = ALLOWLIST_HEADER.strip().replace(",", ", ")
    assert written_by.endswith(f"| table {columns} | outputlookup {ALLOWLIST}")
    assert f"lookup {ALLOWLIST} UserId, ClientIP " in macros_of(files["default/macros.conf"])[EXCLUSIONS]


def test_allow_list_drops_the_pair_of_user_and_source_and_no_other(taken: Taken) -> None:
    app, events, clock = open_app(DIST), taken.events, taken.clock
    # What is asked after an alert leaves the list out.
    rules = [entry for entry in taken.rules if entry.tier != INVESTIGATION]
    before = rows_of(hit for hit in taken.found if hit.rule in {entry.name for entry in rules})
    user, source = next(pair for pair in before if all(pair))
    others = [pair for pair in before if pair[0] == user and pair[1] != source] or [("x", "x")]
    row = {"UserId": user.upper(), "ClientIP": source, "reason": ""}
    useless = [
        {"UserId": user, "ClientIP": "", "reason": "x"},
        {"UserId": "", "ClientIP": source, "reason": "x"},
    ]
    after = rows_of(run_opened(listing(app, row, *useless), Run(DIST, rules, events, clock)))
    gone = {pair for pair in before if pair not in after}
    assert {(u.lower(), s) for u, s in gone} == {(user.lower(), source)}
    assert set(others) - {("x", "x")} <= set(after)


def rows_of(hits: Iterable[Hit]) -> list[tuple[str, str]]:
    return [(str(row["UserId"]), str(row["ClientIP"])) for hit in hits for row in hit.rows]


#: Text in which a search finds nothing but the text. Two numbers of twenty digits may be equal to it.
PLAIN_TEXT = re.compile(r"(?!\d{10,}$)[\w.@:/, ()-]+")


def test_filter_macro_drops_what_a_site_writes_there(
    taken: Taken, own_events: dict[str, list[Event]]
) -> None:
    """By any column that tells some results of the rule from others; not every rule knows a user."""
    app = open_app(DIST)
    columns = ("UserId", "ClientIP", "ClientAgent", "DetectionDetail", "ExtraInfo")

    def shown(opened: App, run: Run) -> list[tuple[str, ...]]:
        hits = run_opened(opened, run)
        return [tuple(str(row[name]).lower() for name in columns) for hit in hits for row in hit.rows]

    for rule in taken.rules:
        run = Run(DIST, [rule], own_events[rule.name], clock_for(own_events[rule.name]))
        before = shown(app, run)
        column, value = next(
            (n, row[n])
            for n in range(len(columns))
            for row in before
            if PLAIN_TEXT.fullmatch(row[n]) and any(other[n] != row[n] for other in before)
        )
        tuned = {**app.macros, f"{rule.name}_filter": f'search NOT {columns[column]}="{value}"'}
        left = shown(replace(app, macros=tuned), run)
        assert left and sorted(left) == sorted(row for row in before if row[column] != value), rule.name


LOOKUPS = {
    # rows of the lookup: the value that a result of (Ann, 1.1.1.1) gets
    "none": ([], None),
    "equal but for letter case": ([{"u": "ANN", "s": "1.1.1.1", "o": "x"}], "x"),
    "one of two fields": ([{"u": "ann", "s": "2.2.2.2", "o": "x"}], None),
    "the first row of two": ([{"u": "ann", "s": "1.1.1.1", "o": n} for n in "xy"], "x"),
    "no wildcards": ([{"u": "*", "s": "1.1.1.1", "o": "x"}], None),
    "an empty cell is no value": ([{"u": "ann", "s": "", "o": "x"}], None),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_lookup_adds_what_splunk_documents(name: str) -> None:
    rows, wanted = LOOKUPS[name]
    spl = "* | eval u=UserId, s=ClientIP | lookup known u, s OUTPUT o AS found | table found"
    listed = [m365("e", UserId="Ann", ClientIP="1.1.1.1")]
    known = {"known": Lookup(rows, case_sensitive=False)}
    (row,) = Workspace(listed).search(spl, {}, NOW.now, lookups=known)
    assert row.values["found"] == wanted
    with pytest.raises(UnsupportedSpl, match="not defined"):
        Workspace(listed).search(spl, {}, NOW.now)


def test_macros_may_call_macros_but_not_without_end() -> None:
    listed = [m365("e", UserId="a"), m365("n", UserId="b")]
    nested = {"one": "(`two` OR `two`)", "two": "`three`", "three": "UserId=a"}
    assert [row.event for row in execute("`one` `three`", listed, NOW, nested)] == ["e"]
    with pytest.raises(UnsupportedSpl, match="nested too deeply"):
        execute("`one`", listed, NOW, {"one": "(`one` OR `two`)", "two": "`one`"})
    with pytest.raises(UnsupportedSpl, match="'two' is not defined"):
        execute("`one`", listed, NOW, {"one": "`two`"})


# --- the accelerated data set --------------------------------------------------------------------------

TSTATS = (
    process("a", Image="C:\\x\\p.exe", CommandLine="p -c", User="D\\ann", Computer="h"),
    process("b", Image="C:\\x\\p.exe", CommandLine="p -c", User="D\\ann", Computer="h"),
    process("c", Image="C:\\x\\P.EXE", CommandLine="p -d", CurrentDirectory="C:\\y"),
    process("d", CommandLine='"C:\\a b\\q.exe" -c'),
    process("e", CommandLine=""),
    m365("f", process="p"),
)


def tstats(terms: str, by: str, options: str = "") -> list[Row]:
    counted = f"{options} count AS count min(_time) AS t FROM datamodel=Endpoint.Processes"
    return execute(f"| tstats {counted} WHERE {terms} BY {by}", TSTATS, NOW)


def test_tstats_groups_equal_events_and_knows_them_all() -> None:
    rows = tstats('Processes.process="p -*"', "Processes.process Processes.user")
    assert {(r.events, r.values["Processes.user"], r.values["count"]) for r in rows} == {
        (("a", "b"), "ann", 2.0),
        (("c",), "unknown", 1.0),
    }


def test_tstats_drops_a_null_group_unless_it_is_filled() -> None:
    directory = "Processes.process_current_directory"
    assert [r.events for r in tstats("Processes.process=*", directory)] == [("c",)]
    filled = tstats("Processes.process=*", directory, "fillnull_value=unknown")
    assert {e for r in filled for e in r.events} == {"a", "b", "c", "d", "e"}


def test_data_set_fills_what_an_event_lacks() -> None:
    rows = tstats("Processes.dest=*", "Processes.process_name Processes.process")
    assert {(r.events, r.values["Processes.process_name"]) for r in rows} == {
        (("a", "b"), "p.exe"),
        (("c",), "P.EXE"),
        (("d",), "q.exe"),
        (("e",), "unknown"),
    }


def test_tstats_groups_by_the_second_of_the_time_too() -> None:
    listed = [
        process(name, UtcTime=f"2024-02-01 12:00:0{time}") for name, time in (("a", "1.2"), ("b", "1.9"))
    ]
    listed += [process("c", UtcTime="2024-02-01 12:00:02.0"), process("d", UtcTime="2024-02-01 13:00:01.2")]
    counted = "count AS n FROM datamodel=Endpoint.Processes WHERE Processes.dest=*"
    for span, events in (("1s", {("a", "b"), ("c",), ("d",)}), ("1h", {("a", "b", "c"), ("d",)})):
        rows = execute(f"| tstats {counted} BY _time span={span} Processes.dest", listed, NOW)
        assert {row.events for row in rows} == events
        assert all(isinstance(t := row.values["_time"], datetime) and t.microsecond == 0 for row in rows)


def test_tstats_minds_the_time() -> None:
    assert not tstats("earliest=-5h latest=now", "Processes.process")
    assert tstats("earliest=-6h latest=now", "Processes.process")


@pytest.mark.parametrize(
    "spl",
    [
        "| tstats count AS n FROM datamodel=Endpoint.Ports WHERE Ports.x=1 BY Ports.x",
        "| tstats count AS n FROM datamodel=Endpoint.Processes WHERE a=1 BY Processes.user | rename a AS b",
        "| tstats prestats=true count AS n FROM datamodel=Endpoint.Processes WHERE a=1 BY Processes.user",
    ],
)
def test_what_is_not_modelled_is_refused(spl: str) -> None:
    with pytest.raises(UnsupportedSpl):
        execute(spl, TSTATS, NOW)


SAME_ON_BOTH = [
    "sel: {Image|endswith: '\\p.exe', CommandLine|contains: c}\ncondition: sel",
    "sel: {Image|endswith: '\\p.exe'}\ncondition: not sel",
    "sel: {ParentImage|endswith: ['\\w.exe', '\\v.exe']}\nother: {CommandLine|contains: c}\n"
    "condition: other and not sel",
    "a: {User: ann}\nb: {CommandLine|endswith: d}\ncondition: a or b",
    "sel: {CommandLine|re: '^p'}\ncondition: sel",
    "sel: {CommandLine: ''}\ncondition: sel",
    "sel: {CommandLine: '*'}\ncondition: sel",
    "sel: {User|exists: true}\ncondition: sel",
    "sel: {User|exists: false}\ncondition: sel",
    "sel: {User: null, CommandLine|contains: c}\ncondition: sel",
    "sel: {User|fieldref: Computer}\ncondition: not sel",
    "sel: {ParentCommandLine|contains: 'x?y'}\ncondition: sel",
    "sel: {Image|contains: '\\P'}\ncondition: sel",
    "sel: {OriginalFileName: 'unknown'}\ncondition: sel",
]


@pytest.mark.parametrize("detection", SAME_ON_BOTH)
def test_data_set_gives_the_verdicts_of_the_plain_search(detection: str, tmp_path: Path) -> None:
    values: dict[str, list[str | None]] = {
        "Image": [None, "", "C:\\x\\P.exe", "q.exe"],
        "CommandLine": [None, "", "p -c", '"C:\\x\\p.exe" -d', "q.exe x c"],
        "ParentImage": [None, "C:\\w.exe"],
        "ParentCommandLine": [None, "v.exe xzy"],
        "User": [None, "", "D\\Ann"],
        "Computer": [None, "ann"],
    }
    records: list[dict[str, str]] = [{}]
    for name, listed in values.items():
        records = [r | ({} if v is None else {name: v}) for r in records for v in listed]
    listed_events = [process(str(n), **record) for n, record in enumerate(records)]
    query = process_rule(tmp_path, detection)
    assert query.data_set_text is not None
    macros = macros_of(macros_conf(query))
    plain = {row.event for row in execute(query.text, listed_events, NOW, macros)}
    found = {
        event for row in execute(query.data_set_text, listed_events, NOW, macros) for event in row.events
    }
    assert found == plain
    assert "unknown" in detection or 0 < len(plain) < len(records)


@pytest.mark.parametrize(
    "detection",
    [
        "sel: [mailsniper]\ncondition: sel",
        "sel: {Description: mailsniper}\ncondition: sel",
        "sel: {User|contains: AUTHORI}\ncondition: sel",
        "sel: {CommandLine|re: ''}\ncondition: sel",
    ],
)
def test_a_rule_that_the_data_set_cannot_answer_has_no_second_form(detection: str, tmp_path: Path) -> None:
    assert process_rule(tmp_path, detection).data_set_text is None


def by_the_second(row: Row) -> frozenset[tuple[str, str]]:
    """The columns of a row; the data set knows the seconds of a time and nothing below."""
    time = row.values["_time"]
    assert isinstance(time, datetime)
    return frozenset((k, str(v)) for k, v in {**row.values, "_time": time.replace(microsecond=0)}.items())


def test_every_process_rule_has_every_form_with_the_same_columns(pack: Pack, events: list[Event]) -> None:
    workspace, clock = Workspace(events), clock_for(events)
    macros = macros_of((DIST / "splunk" / "macros.conf").read_text(encoding="utf-8"))
    macros |= {name: f"-{clock.lookback}" for name in macros if name.endswith("_lookback")}
    rules = [r for r in pack.rules if r.logsource.get("category") == "process_creation" and not r.correlation]
    assert rules
    for rule in rules:
        paths = [
            DIST / "splunk" / "queries" / f"{rule.name}{kind}.spl"
            for kind in ("", ON_DATA_SET, ON_RAW_EVENTS)
        ]
        plain, *others = (workspace.search(p.read_text(encoding="utf-8"), macros, clock.now) for p in paths)
        for other in others:
            assert set(map(by_the_second, plain)) >= set(map(by_the_second, other))
            assert {row.event for row in plain} == {event for row in other for event in row.events}

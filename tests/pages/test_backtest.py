"""The trap: a ready query on a page that nobody ran.

Every command of docs/backtest.md that makes a query runs here, for every core rule; what it prints runs on
days of events, slice by slice, and finds what the rule finds in all of them at once. The queries that the
page shows are what the commands print.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import duckdb_kql
import pytest
from duckdb_kql.engine import schema as schema_of

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.model.case import events_file, load_cases, log_source_of
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.pack import Pack, load_pack
from detection_pack.platforms.elastic.store import Store
from detection_pack.platforms.kusto.run import Workspace, verdicts
from detection_pack.platforms.splunk import run as splunk
from detection_pack.replay.verdict import exact, replay

PAGE = (ROOT / "docs" / "backtest.md").read_text(encoding="utf-8")
#: Hits in one form: the ids of events, or groups with window and value.
Found = set[Any]
FIRST, DAYS = datetime(2026, 3, 1, tzinfo=UTC), 4


def blocks(fence: str, marks: str = "") -> list[str]:
    """The code blocks of the page in this language that say this."""
    found = re.findall(rf"^```{fence}\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    return [block for block in found if marks in block]


def printed(command: str, rule: str, start: datetime = FIRST, end: datetime | None = None) -> str:
    """What a command of the page prints."""
    end = start + timedelta(days=1) if end is None else end
    variables = {"RULE": rule, "FROM": _said(start), "TO": _said(end)}
    done = subprocess.run(
        ["sh", "-euc", command], cwd=ROOT, env={**os.environ, **variables}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout.decode("utf-8")


def _said(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def pack() -> Pack:
    return load_pack(ROOT)


@cache
def days_of(rule: str) -> tuple[Event, ...]:
    """The events of the rule's cases on each of some days, every record with an id of its own."""
    stated = pack().rule(rule)
    source = log_source_of(stated, pack().sources)
    events = [event for case in load_cases(events_file(ROOT, rule), source) for event in case.events]
    first = min(event.time for event in events if event.time is not None)
    start = first.replace(hour=0, minute=0, second=0, microsecond=0)
    out = []
    for event in events:
        assert event.time is not None
        # Some cases have events of several days; only those of the first are moved.
        within = FIRST + (event.time - start) % timedelta(days=1)
        for day in range(DAYS):
            moment = source.time.written(within + timedelta(days=day))
            record = {**event.record, source.time.field: moment}
            record |= {name: f"{event.id} day {day}" for name in source.identity if name in record}
            out.append(Event(f"{event.id} day {day}", source, record))
    return tuple(out)


def slices() -> Iterator[tuple[datetime, datetime]]:
    for day in range(DAYS):
        yield FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1)


def entry_of(rule: str) -> RuleEntry:
    return next(entry for entry in rule_entries(DIST) if entry.name == rule)


def found(hits: Iterable[Hit]) -> Found:
    out: Found = set()
    for hit in hits:
        out |= set(hit.events) if hit.group is None else {(hit.group, hit.window, hit.value)}
    return out


@cache
def expected(rule: str, here: str) -> frozenset[Any]:
    """What the rule as it stands in dist/ finds in all the days at once."""
    return frozenset(found(exact(replay(DIST, days_of(rule), [here], [rule], pack().sources.values()))))


RULES = [rule.name for rule in load_pack(ROOT).rules if rule.tier == "core"]
each_rule = pytest.mark.parametrize("rule", RULES)


@each_rule
def test_the_days_have_hits_on_each_of_them(rule: str) -> None:
    hits = expected(rule, "sentinel")
    if entry_of(rule).window is None:
        days = {str(hit).rpartition(" ")[2] for hit in hits}
    else:
        days = {str((window - FIRST).days) for _, window, _ in hits}
    assert days == {str(day) for day in range(DAYS)}


@each_rule
@pytest.mark.parametrize(
    ("here", "marks"), [("sentinel", "sentinel/queries"), ("defender", "defender/queries")]
)
def test_kql_by_days(rule: str, here: str, marks: str) -> None:
    command = blocks("sh", marks)[0]
    workspace = Workspace(days_of(rule), schema=here, sources=pack().sources.values())
    clock = Clock(datetime(2026, 11, 1, tzinfo=UTC))  # long after: no look-back may be left
    hits: Found = set()
    for start, end in slices():
        text = printed(command, rule, start, end)
        own = found(verdicts(workspace, text, entry_of(rule), clock, "backtest"))
        assert own and not own & hits
        hits |= own
    assert hits == expected(rule, here)


#: What a search job takes: Azure Monitor, "KQL query limitations".
_IN_A_JOB = re.compile(
    r"where|extend|project|project-away|project-keep|project-rename|project-reorder|parse|parse-where"
)


@each_rule
def test_a_search_job_and_the_rest(rule: str) -> None:
    _, job_command, rest_command = blocks("sh", "sentinel/queries")
    job = printed(job_command, rule)
    assert re.match(r"[A-Za-z]+\n\| ", job), "a job begins with a table"
    assert all(_IN_A_JOB.fullmatch(op) for op in re.findall(r"^\| ([\w-]+)", job, re.MULTILINE))
    workspace = Workspace(days_of(rule), sources=pack().sources.values())
    connection = workspace.connection
    made = duckdb_kql.to_sql(job, schema=schema_of(connection), allow_write=False)
    connection.sql(f"CREATE TABLE Backtest_SRCH AS {made}", params=made.parameters or None)
    connection.sql('ALTER TABLE Backtest_SRCH RENAME "TimeGenerated" TO "_OriginalTimeGenerated"')
    connection.sql("ALTER TABLE Backtest_SRCH ADD COLUMN \"TimeGenerated\" TIMESTAMP DEFAULT '2026-11-01'")
    rest = printed(rest_command, rule)
    hits = verdicts(workspace, rest, entry_of(rule), Clock(datetime(2026, 11, 1, tzinfo=UTC)), "backtest")
    assert found(hits) == expected(rule, "sentinel")


@each_rule
def test_spl_by_days(rule: str) -> None:
    [command, _] = blocks("sh", "splunk/queries")
    workspace = splunk.Workspace(days_of(rule), pack().sources.values())
    macros = splunk.macros_in(DIST, Clock(datetime(2026, 11, 1, tzinfo=UTC)))
    forms = [path.name.removesuffix(".spl") for path in sorted(DIST.glob(f"splunk/queries/{rule}.*spl"))]
    assert rule in forms
    for form in forms:
        hits: Found = set()
        for start, end in slices():
            text = printed(command, form)
            assert "earliest" not in text and "latest=" not in text
            rows = workspace.search(text, macros, end + timedelta(days=200), (start, end))
            own = found(splunk.hits_of(entry_of(rule), form, rows))
            assert own and not own & hits
            hits |= own
        assert hits == expected(rule, "splunk"), form


@each_rule
def test_the_elastic_body_by_days(rule: str) -> None:
    [command] = blocks("sh", "elastic/queries")
    view = json.loads((DIST / f"elastic/queries/{rule}.view.json").read_text(encoding="utf-8"))
    hits: Found = set()
    millisecond = timedelta(milliseconds=1)
    with Store(days_of(rule), pack().sources.values()) as store:
        for start, end in slices():
            body = json.loads(printed(command, rule, start, end))
            if isinstance(body["query"], str):
                span, query = body["filter"], body["query"]
            else:
                asked, span = body["query"]["bool"]["filter"]
                query = asked["query_string"]["query"]
            assert span == {"range": {"@timestamp": {"gte": _said(start), "lt": _said(end)}}}
            during = (start - millisecond, end - millisecond)
            if entry_of(rule).window is None:
                own: Found = set(store.lucene(query, view["index"], during))
            else:
                names = [view["fields"][name] for name in entry_of(rule).group_by]
                own = {
                    (
                        tuple(
                            (canonical, str(row[name] or ""))
                            for canonical, name in zip(entry_of(rule).group_by, names, strict=True)
                        ),
                        row["window"],
                        float(row["value_count"]),
                    )
                    for row in store.esql(query, during)
                }
            assert own and not own & hits
            hits |= own
    assert hits == expected(rule, "elastic")


def test_what_the_page_shows_is_what_its_commands_print() -> None:
    [variables] = blocks("sh", "export RULE")
    shown = {
        "kusto": blocks("sh", "sentinel/queries")[0],
        "spl": blocks("sh", "splunk/queries")[0],
    }
    for fence, command in shown.items():
        done = subprocess.run(
            ["sh", "-euc", f"{variables}\n{command}"], cwd=ROOT, capture_output=True, check=True
        )
        assert blocks(fence) == [done.stdout.decode("utf-8").rstrip("\n")]


def test_every_command_is_sound_shell_and_none_is_left_out() -> None:
    commands = blocks("sh")
    assert len(commands) == 8
    for command in commands:
        assert subprocess.run(["sh", "-nc", command], check=False).returncode == 0
    # Every fenced block has a language that a test above reads.
    fences = re.findall(r"^```(\w*)$", PAGE, re.MULTILINE)
    assert set(fences) == {"", "sh", "kusto", "spl"} and fences.count("") == len(fences) // 2


def test_figures_of_the_page_are_those_of_the_rules() -> None:
    """2,976 runs of a quarter of an hour are a month of 31 days; a run may make 100 alerts, or 1,000."""
    rules = [json.loads(line) for line in (DIST / "elastic/rules.ndjson").read_text().splitlines()]
    queries = [rule for rule in rules if rule.get("type") in ("query", "esql")]
    found = {(rule["type"], rule["interval"], rule["max_signals"]) for rule in queries}
    assert found == {("query", "15m", 100), ("esql", "15m", 1000)}
    assert "100 alerts" in PAGE and "1,000 of an ES\\|QL rule" in PAGE
    assert "2,976" in PAGE and 31 * 24 * 4 == 2976


def test_sources_are_named_and_used() -> None:
    numbered = set(re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE))
    used = set(re.findall(r"\[(\d)\](?!\()", PAGE))
    assert used == numbered
    assert re.search(r"\*unconfirmed\*", PAGE)


def test_links_lead_somewhere() -> None:
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert target.startswith("https://") or (ROOT / "docs" / target).exists(), target

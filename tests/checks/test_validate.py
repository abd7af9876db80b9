"""The trap: a check that stops at the first fault, or points at a line where nothing is wrong.

Every fault of `data/faults.yml` is put into a valid file of the pack, alone; the run must report that and
nothing else, at the line where it stands. Then ten at once, and all ten must be there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.checks.explanation import examples
from detection_pack.checks.validate import all_checks, validate
from detection_pack.model.findings import Finding
from support.checkout import copy_of_the_sources
from support.messages import MESSAGES, RENEW, Fault, all_faults, example, message

CMDLET = "sigma/core/exchange_admin_cmdlet.yml"
BULK = "sigma/core/bulk_cross_mailbox_access.yml"
EVENTS = "tests/events/exchange_admin_cmdlet.yml"
BULK_EVENTS = "tests/events/bulk_cross_mailbox_access.yml"
SPLUNK = "pipelines/m365/splunk.yml"

ITEM = "    Operation|contains:\n"


FAULTS = all_faults()
GOLDEN = yaml.safe_load(MESSAGES.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_sources(tmp_path_factory.mktemp("pack"))


@pytest.fixture
def root(pristine: Path) -> Iterator[Path]:
    """A copy of the pack whose files are put back afterwards."""
    before = {path: path.read_bytes() for path in pristine.rglob("*.yml")}
    yield pristine
    for path in pristine.rglob("*.yml"):
        if path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)


def edit(root: Path, file: str, old: str, new: str) -> Path:
    path = root / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def line_of(path: Path, said: str | int) -> int:
    if isinstance(said, int):
        return said
    text = path.read_text(encoding="utf-8")
    assert text.count(said) == 1, f"{said!r} stands {text.count(said)} times"
    return text.count("\n", 0, text.index(said)) + 1


@pytest.mark.parametrize(("name", "fault"), FAULTS.items(), ids=FAULTS.keys())
def test_a_fault_alone_is_the_one_finding_at_its_line(name: str, fault: Fault, root: Path) -> None:
    path = edit(root, fault.file, fault.old, fault.new)
    findings = validate(root, [path], execute=False)
    assert [(f.check, f.line, f.severity) for f in findings] == [
        (fault.check, line_of(path, fault.at), fault.severity)
    ] * fault.times, "\n".join(map(str, findings))
    assert all(fault.said in str(f) and f.path == str(path) for f in findings)
    assert all(re.match(r"^\S.*:\d+: .+; .+$", str(f)) for f in findings)
    assert message(findings, root) == GOLDEN.get(name), f"if it is meant so: {RENEW}"
    if one := example(fault, findings, root):
        shown = examples(ROOT)[fault.check]
        assert shown["says"] != one["says"] or shown == one, f"if it is meant so: {RENEW}"


def test_messages_and_examples_are_those_of_the_faults() -> None:
    assert list(GOLDEN) == list(FAULTS), RENEW
    said = "".join(GOLDEN.values())
    for check, one in examples(ROOT).items():
        assert f"{one['says']} [{check}]\n" in said, RENEW


def test_at_least_forty_faults_and_every_check_is_in_the_catalogue() -> None:
    assert len(FAULTS) >= 40
    assert {fault.check for fault in FAULTS.values()} <= set(all_checks())


def test_every_id_that_code_gives_a_finding_is_in_the_catalogue() -> None:
    """Where a finding is made below the checks nothing looks its id up."""
    named = set()
    for path in (ROOT / "scripts" / "detection_pack").rglob("*.py"):
        constants: dict[str, object] = {}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Tuple):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                names = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
                for name, value in zip(names, values, strict=False):
                    if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                        constants[name.id] = value.value
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                # `PackError.at` and its like state it last, as a finding does, a reading first.
                owner = ast.unparse(node.func).rpartition(".")[0]
                called = "Finding" if owner[:1].isupper() else called
                if called in ("at", "fault") and owner.rpartition(".")[2] != "reading":
                    continue
                place = {"at": 0, "fault": 0, "found": 0, "Finding": 4}.get(called)
                if place is not None and len(node.args) > max(place, 3):
                    named.add(_id_of(node.args[place], constants))
    named.discard(None)
    assert {"sigma", "placeholder", "parameter", "unknown-field", "inexpressible", "rule-name"} <= named
    assert named <= set(all_checks()), named - set(all_checks())


def _id_of(argument: ast.expr, constants: dict[str, object]) -> object:
    if isinstance(argument, ast.Name):
        return constants.get(argument.id)
    return argument.value if isinstance(argument, ast.Constant) else None


# ---- many at once ----------------------------------------------------------------------------------------
TEN = {
    "title: Exchange Mailbox Collection Cmdlet": (
        "title: Exchange Mailbox Collection Cmdlet.",
        "sigmahq-title-end",
    ),
    "status: experimental": ("status: experimentl", "sigma"),
    "  - attack.collection": ("  - attack.colection", "unknown-tactic"),
    "  - attack.t1114.002": ("  - attack.t1114.222", "unknown-technique"),
    "    RecordType: ExchangeAdmin": ("    RecordType: ExchangeAdmn", "unknown-value"),
    "    Operation|contains:": ("    Operatoin|contains:", "unknown-field"),
    "      - New-MailboxSearch": ("      - New-MailboxSerch", "unlisted-value"),
    "  condition: selection": ("    UserKey|contains: ab\n  condition: selection", "weak-wildcard"),
    "confidence: high": ("confidence: sure", "metadata"),
    "  extra: Parameters": ("  extras: Parameters", "alert-view"),
}


def test_ten_faults_of_ten_kinds_are_all_found_in_one_run(root: Path) -> None:
    path = root / CMDLET
    text = path.read_text(encoding="utf-8")
    for old, (new, _) in TEN.items():
        assert text.count(old + "\n") == 1
        text = text.replace(old + "\n", new + "\n", 1)
    path.write_text(text, encoding="utf-8")
    lines = text.split("\n")
    expected = {(check, lines.index(new.split("\n")[0]) + 1) for new, check in TEN.values()}
    findings = validate(root, [path], execute=False)
    assert {(f.check, f.line) for f in findings} == expected, "\n".join(map(str, findings))
    assert len({f.check for f in findings}) == 10


def test_a_broken_file_hides_no_other_file(root: Path) -> None:
    broken = edit(root, BULK, "title: Operation", "title: [")
    faulty = edit(root, CMDLET, "UserId", "UserIdd")
    pipeline = edit(root, SPLUNK, "transformations:\n", "vars: {a: b}\ntransformations:\n")
    assert {(f.path, f.check) for f in validate(root, execute=False)} >= {
        (str(broken), "yaml"),
        (str(faulty), "unknown-field"),
        (str(pipeline), "pipeline-feature"),
    }


def test_every_document_of_a_file_is_read_after_a_fault_of_syntax(root: Path) -> None:
    path = edit(root, BULK, "title: Operation", "title: [")
    edit(root, BULK, "    gte: 5", "\t  gte: 5")
    faults = [f for f in validate(root, [path], execute=False) if f.check == "yaml"]
    assert len(faults) == 2 and faults[0].line < 10 and faults[1].line == line_of(path, "\t  gte: 5")


def test_names_and_ids_are_compared_across_tiers_and_correlated_rules(root: Path) -> None:
    text = (root / BULK).read_text(encoding="utf-8")
    (root / "sigma" / "extended").mkdir(exist_ok=True)
    path = root / "sigma" / "extended" / "bulk_cross_mailbox_access.yml"
    path.write_text(text, encoding="utf-8")
    findings = [f for f in validate(root, [path], execute=False) if f.check.startswith("duplicate-")]
    lines = [n for n, line in enumerate(text.split("\n"), start=1) if line.startswith(("id:", "name:"))]
    assert [f.line for f in findings] == lines and all("core/bulk" in f.what for f in findings)
    assert not [f for f in validate(root, [root / BULK], execute=False) if f.path == str(path)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(k for k, f in FAULTS.items() if f.file == CMDLET and f.check != "yaml")),
    above=st.integers(1, 40),
    within=st.integers(0, 5),
)
def test_a_line_moves_with_its_fault(root: Path, name: str, above: int, within: int) -> None:
    fault = FAULTS[name]
    pristine = (ROOT / fault.file).read_text(encoding="utf-8")
    path = root / fault.file
    path.write_text(pristine.replace(fault.old, fault.new, 1), encoding="utf-8")
    before = validate(root, [path], execute=False)
    moved = path.read_text(encoding="utf-8").replace("logsource:\n", "# x\n" * within + "logsource:\n", 1)
    at = next((n for n, line in enumerate(moved.split("\n"), 1) if line == "# x"), 10**6)
    path.write_text("# y\n" * above + moved, encoding="utf-8")
    after = validate(root, [path], execute=False)
    assert [(f.check, f.line) for f in after] == [
        (f.check, f.line + above + (within if f.line >= at else 0)) for f in before
    ]


# ---- events ----------------------------------------------------------------------------------------------
def test_missing_few_and_orphaned_events(root: Path) -> None:
    (root / EVENTS).rename(root / "tests" / "events" / "nobody.yml")
    text = (root / BULK_EVENTS).read_text(encoding="utf-8")
    (root / BULK_EVENTS).write_text(text[: text.index("no_match:")], encoding="utf-8")
    found = {(f.check, Path(f.path).name, f.line) for f in validate(root, execute=False)}
    (root / "tests" / "events" / "nobody.yml").rename(root / EVENTS)
    assert found == {
        ("missing-events", "exchange_admin_cmdlet.yml", 1),
        ("orphan-events", "nobody.yml", 1),
        ("few-events", "bulk_cross_mailbox_access.yml", line_of(root / BULK_EVENTS, "rule: bulk")),
    }


def test_an_event_that_contradicts_the_rule_is_found_by_execution(root: Path) -> None:
    path = edit(root, EVENTS, "{Operation: Invoke-SelfSearch}", "{Operation: Get-Mailbox}")
    [finding] = validate(root, [root / CMDLET])
    assert (finding.check, finding.path) == ("contradicted-event", str(path))
    assert finding.line == line_of(path, "MailSniper's search of the user's own mailbox")
    assert "was missed" in finding.what and "kql" in finding.what


# ---- anybody's rules ---------------------------------------------------------------------------------------
COMMUNITY = """title: Suspicious Thing.
id: 0b1d5a0e-6f64-4e2d-9d9e-3ad8a1a5f0aa
status: test
description: Detects a suspicious thing that somebody has seen somewhere.
author: Somebody
date: 2024-01-01
tags:
    - attack.execution
    - attack.t1059.001
logsource:
    category: process_creation
    product: windows
detection:
    selection:
        Image|endswith: '\\powershell.exe'
        CommandLine|contains: '-e'
        IntegrityLevl: High
    condition: selection
falsepositives:
    - Unknown
level: high
"""


def test_a_strangers_rule_needs_no_events_and_its_conventions_are_warnings(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "Somebody's rule.yml"
    path.write_text(COMMUNITY, encoding="utf-8")
    found = [(f.check, f.line, f.severity) for f in validate(root, [path])]
    assert found == [
        ("sigmahq-title-end", 1, "warning"),
        ("weak-wildcard", 16, "warning"),
        ("unknown-field", 17, "error"),
    ]


def test_the_pack_has_no_finding(pristine: Path) -> None:
    assert validate(ROOT, execute=False) == validate(pristine, execute=False) == []


def test_findings_are_sorted_and_the_same_every_time(root: Path) -> None:
    path = edit(root, CMDLET, ITEM, f"    UserKey: '*'\n    UsrKey: ab\n{ITEM}")
    first = validate(root, [path], execute=False)
    assert first == sorted(first) == validate(root, [path], execute=False)
    assert all(isinstance(f, Finding) for f in first) and len(first) == 2


def test_what_a_broken_selection_leaves_is_still_checked(root: Path) -> None:
    """A selection that cannot be read must not take its neighbours, or the metadata, with it."""
    path = edit(root, CMDLET, ITEM, f"    UserId|nonsense: abc\n    UserKey: '*'\n    Parameters: x\n{ITEM}")
    edit(root, CMDLET, "confidence: high", "confidence: sure")
    checks = {f.check for f in validate(root, [path], execute=False)}
    assert checks == {"sigma", "weak-wildcard", "inexpressible", "metadata"}


PLACEHOLDERS = {
    "title: Exchange Mailbox Collection Cmdlet": 'title: "FILL-IN: what it detects"',
    "id: 6f0b8a5e-3b0c-4c83-9c0e-2f6c9d0d5a11": "id: FILL-IN a UUID",
    "date: 2026-11-23": "date: FILL-IN today",
    "  - attack.t1114.002": "  - attack.FILL-IN technique",
    "    RecordType: ExchangeAdmin": "    RecordType: FILL-IN record type",
    "      - New-MailboxSearch": "      - 'FILL-IN: operation'",
    "level: high": "level: FILL-IN",
    "confidence: high": "confidence: FILL-IN",
    "  - OfficeActivity": "  - FILL-IN table",
    "  user: UserId": "  user: FILL-IN field",
}


def test_a_new_rule_reports_its_placeholders_and_nothing_else(root: Path) -> None:
    path, events = root / CMDLET, root / EVENTS
    text = path.read_text(encoding="utf-8")
    for old, new in PLACEHOLDERS.items():
        text = text.replace(old, new, 1)
    block = "description: |\n  FILL-IN: what it means\nreferences:\n  - FILL-IN a page\nauthor:"
    text = re.sub(r"description: \|.*?\nauthor:", block, text, count=1, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")
    events.write_text(
        "rule: exchange_admin_cmdlet\ndefaults: {RecordType: 1, CreationTime: FILL-IN}\nmatch:\n"
        "  - title: 'FILL-IN: an event'\n    record: {Operation: FILL-IN}\nno_match:\n"
        "  - title: 'FILL-IN: a near miss'\n    record: {}\n",
        encoding="utf-8",
    )
    findings = validate(root, [path])
    stated = [
        (p, n)
        for p in (path, events)
        for n, line in enumerate(p.read_text().split("\n"), 1)
        if "FILL-IN" in line
    ]
    assert {f.check for f in findings} == {"placeholder"}, "\n".join(map(str, findings))
    assert sorted({(f.path, f.line) for f in findings}) == sorted((str(p), n) for p, n in stated)

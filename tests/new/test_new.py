"""The trap: a scaffold that is not valid, or that proves nothing, once its placeholders are filled in.

Filled in mechanically, what `new` writes passes validate, build and replay on every platform, for every rule
and every log source that it can start from; until then validate names each placeholder and build refuses. It
writes three files inside the pack or nothing at all, whatever its arguments are.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sigma.types import SigmaString

from conftest import ROOT
from detection_pack.checks.events_file import LEAST_CASES
from detection_pack.cli import main
from detection_pack.model.documents import load_documents
from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.placeholders import MARKER
from detection_pack.model.rule_files import NAME
from detection_pack.model.rule_reader import load_rule
from detection_pack.new.items import plain_text, sigma_value
from detection_pack.new.layout import events_of
from detection_pack.new.near_misses import cases_of
from detection_pack.new.templates import DATA, Template, from_log_source, like, log_sources
from detection_pack.new.values import UNFILLED, forms_of, values_of
from support import reference_model as model
from support.checkout import copy_of_the_pack, core_alone, tree
from support.sources import M365
from support.sources import PROCESS as SYSMON

CORE = sorted(path.stem for path in (ROOT / "sigma" / "core").glob("*.yml"))
SOURCES = [
    ",".join(f"{k}={v}" for k, v in source.logsource.items()) for source in log_sources(load_pack(ROOT))
]
PROSE = load_documents(DATA / "prose.yml")[0].data

#: Rules whose value stands in other items than those of the core: detection, alert's user, and new values.
EXCHANGE, PROCESS = "{product: m365, service: exchange}", "{product: windows, category: process_creation}"
OTHERS = {
    "equality_and_filter": (
        EXCHANGE,
        "selection: {RecordType: ExchangeItem, Operation: [SendAs, SendOnBehalf]}\n"
        "  filter_main_system: {UserId|startswith: S-1-5-}\n"
        "  condition: selection and not 1 of filter_main_*",
        "RecordType: 2, Operation: SendAs, Workload: Exchange, ResultStatus: Succeeded,\n"
        "      ClientIP: 198.51.100.7, ClientIPAddress: 198.51.100.7, LogonType: 0,\n"
        "      ClientInfoString: Client=MSExchangeRPC, ExternalAccess: false,\n"
        "      OrganizationName: contoso.example, MailboxOwnerUPN: b@contoso.example",
        ["UpdateInboxRules"],
    ),
    "substring": (
        EXCHANGE,
        "selection: {RecordType: ExchangeAdmin, ObjectId|contains: [DiscoverySearchMailbox, x]}\n"
        "  condition: selection",
        "RecordType: 1, ObjectId: a.DiscoverySearchMailbox, ClientIP: 198.51.100.7, Operation: Set-Mailbox,\n"
        "      ResultStatus: 'True', Workload: Exchange, OrganizationName: contoso.example",
        ["JournalMailbox", "a[b]c (d) 'e' $f"],
    ),
    "end_of_a_path": (
        PROCESS,
        "selection: {Image|endswith: ['\\outlook.exe', '\\olk.exe']}\n  condition: selection",
        r"Image: 'C:\Program Files\outlook.exe', ParentImage: 'C:\x\cmd.exe'",
        ["\\MailSniper.exe", "\\EWSEditor64.exe"],
    ),
    "beginning": (
        PROCESS,
        "selection: {CommandLine|startswith: [powershell, pwsh]}\n  condition: selection",
        r"Image: 'C:\x\pwsh.exe', CommandLine: pwsh -c x",
        ['"C:\\tools\\curl.exe" --ntlm'],
    ),
    "alternatives": (
        PROCESS,
        "selection_a: {CommandLine|contains: [EWSEditor, MailSniper]}\n"
        "  selection_b: {Image|endswith: '\\x.exe'}\n  condition: 1 of selection_*",
        r"Image: 'C:\x\pwsh.exe', CommandLine: pwsh -c MailSniper",
        ["ruler.exe --email", "50%|`x`", "Größe_é"],
    ),
    "whole_words": (
        PROCESS,
        "selection: {CommandLine|contains: [exchange, mailbox]}\n  condition: selection",
        r"Image: 'C:\x\pwsh.exe', CommandLine: pwsh -c mailbox",
        ["WebServices"],
    ),
    "pieces_of_words": (
        PROCESS,
        "selection: {CommandLine|contains: [exchange, mailbox]}\n  condition: selection",
        r"Image: 'C:\x\pwsh.exe', CommandLine: pwsh -c mailbox",
        ["WebServices"],
    ),
}


def write_other(root: Path, name: str) -> None:
    """A rule of `OTHERS`, with the one event that a scaffold needs of it."""
    logsource, detection, record, _ = OTHERS[name]
    process = logsource == PROCESS
    when = "UtcTime: '2026-03-10 09:15:00'" if process else "CreationTime: '2026-03-10T09:15:00'"
    user, address = ("User", "Computer") if process else ("UserId", "ClientIP")
    (root / "sigma" / "extended").mkdir(exist_ok=True)
    (root / "sigma" / "extended" / f"{name}.yml").write_text(
        f"title: Other\nname: {name}\nstatus: experimental\nlevel: low\nlogsource: {logsource}\n"
        f"detection:\n  {detection}\n"
        + ("whole_terms: true\n" if name == "whole_words" else "")
        + "tags: [attack.collection, attack.t1114.002]\nrequired_tables: [x]\ndata_sources: [x]\n"
        + f"alert: {{type: t, detail: d, user: {user}, source: {address}}}\n",
        encoding="utf-8",
    )
    (root / "tests" / "events" / f"{name}.yml").write_text(
        f"rule: {name}\ndefaults: {{{when}, {user}: a@contoso.example}}\n"
        f"match:\n  - title: one\n    record: {{{record}}}\nno_match: []\n",
        encoding="utf-8",
    )


def new(root: Path, *arguments: str) -> int:
    try:
        return main(["--root", str(root), "new", *arguments])
    except SystemExit as stopped:
        assert isinstance(stopped.code, int)
        return stopped.code


def fill_in(root: Path, name: str, value: str) -> None:
    """Put sensible text in place of every placeholder, as an editor's "replace all" would."""
    shown = name.replace("_", " ").title()
    sensible = {
        PROSE["rule"]["title"]: f"Scaffold of {shown}",
        PROSE["event"]["title"]: f"Single Event of {shown}",
        PROSE["rule"]["reference"]: "https://learn.microsoft.com/en-us/purview/audit-log-activities",
        PROSE["rule"]["falsepositive"]: "Administrators at work. Ask for the change ticket.",
        PROSE["event"]["falsepositive"]: "Delegates. This event alone is not an alert.",
        PROSE["rule"]["alert_type"]: "Scaffold",
        PROSE["rule"]["alert_detail"]: "It happened",
        **{f"{MARKER}: {what}": "Somebody did" for what in ("for the analyst", "what one such event is")},
        **{token: forms_of(value)[form] for form, token in UNFILLED.items()},
    }
    for path in (*(root / "sigma").rglob(f"{name}.yml"), root / "tests" / "events" / f"{name}.yml"):
        text = path.read_text(encoding="utf-8")
        for placeholder, filled in sensible.items():
            text = text.replace(placeholder, filled)
        assert MARKER not in text
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("core", "sources", "others"),
    [
        pytest.param(CORE[:1], SOURCES[:1], list(OTHERS)[:1], id="some"),
        pytest.param(CORE, SOURCES, list(OTHERS), id="all", marks=pytest.mark.campaign),
    ],
)
def test_every_scaffold_is_green_once_its_placeholders_are_filled_in(
    core: list[str],
    sources: list[str],
    others: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = core_alone(copy_of_the_pack(tmp_path / "pack"))
    names = []
    for number, rule in enumerate(core):
        names.append(f"like_core_{number}")
        assert new(root, names[-1], "--like", rule, "--tier", "hunting") == 0
        value = {"onprem_powershell_collection": "Get-InboxRule"}.get(rule, "New-InboxRule")
        fill_in(root, names[-1], "MoveToDeletedItems" if rule.startswith("bulk") else value)
    for number, source in enumerate(sources):
        names.append(f"from_source_{number}")
        assert new(root, names[-1], "--logsource", source) == 0
        fill_in(root, names[-1], "Set-InboxRule")
    for other in others:
        values = OTHERS[other][-1]
        names.append(f"new_{other}")
        write_other(root, other)
        stated = [part for value in values for part in ("--value", value)]
        assert new(root, names[-1], "--like", other, *stated) == 0, capsys.readouterr().err
        for path in (
            *(root / "sigma" / "extended").glob(f"{other}.yml"),
            *(root / "tests").rglob(f"{other}.yml"),
        ):
            path.unlink()
        fill_in(root, names[-1], "x")
    for folder in (root / "sigma" / "core", root / "tests" / "events"):
        for path in folder.glob("*.yml"):
            if path.stem in CORE:
                path.unlink()
    command = ["--root", str(root)]
    assert main([*command, "validate"]) == 0, capsys.readouterr().err
    assert main([*command, "build"]) == 0, capsys.readouterr().err
    assert main([*command, "replay"]) == 0, capsys.readouterr().err
    table = capsys.readouterr().out
    assert all(len(re.findall(rf"^{name} .*", table, re.MULTILINE)) == 1 for name in names)
    assert f"{len(names)} rules, 4 platforms" in table and "all as expected" in table


@pytest.mark.parametrize(
    "source",
    [
        CORE[0],
        SOURCES[0],
        *(pytest.param(one, marks=pytest.mark.campaign) for one in [*CORE[1:], *SOURCES[1:]]),
    ],
)
def test_until_then_validate_names_the_placeholders_and_build_refuses(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = core_alone(copy_of_the_pack(tmp_path / "pack"))
    kept = "exchange_admin_cmdlet" if "=" in source else source
    for rule in set(CORE) - {kept}:  # what the others find takes longest
        (root / "sigma" / "core" / f"{rule}.yml").unlink()
        (root / "tests" / "events" / f"{rule}.yml").unlink()
    before = tree(root / "dist")
    assert new(root, "brand_new", "--logsource" if "=" in source else "--like", source) == 0
    paths = capsys.readouterr().out.splitlines()[:3]
    written = {root / f"{part}/brand_new.{end}" for part, end in _FILES}
    assert set(map(Path, paths)) == written and all(path.is_file() for path in written)
    marked = set()
    for path in written - {root / "docs/rules/brand_new.md"}:
        lines = path.read_text(encoding="utf-8").splitlines()
        marked |= {f"{path}:{number}" for number, line in enumerate(lines, start=1) if MARKER in line}
    in_rule = {place for place in marked if "/sigma/" in place}
    assert len(in_rule) >= 7
    for command, least in (("validate", in_rule), ("build", in_rule)):
        assert main(["--root", str(root), command]) == 1
        said = set(re.findall(r"^(/.*?:\d+): ", capsys.readouterr().err, re.MULTILINE))
        assert least <= said <= marked
    assert tree(root / "dist") == before


_FILES = (("sigma/extended", "yml"), ("tests/events", "yml"), ("docs/rules", "md"))


PROBE = """# FILL-IN: a comment is no placeholder
title: {title}
name: probe
logsource: {{product: m365, service: exchange}}
detection: {{selection: {{{key}: x}}, condition: selection}}
alert: {{type: t, detail: d}}
"""


@pytest.mark.parametrize(
    ("title", "key", "lines"),
    [("Probe", "Operation", []), ("FILL-IN", "Operation", [2]), ("Probe", "FILL-IN", [5])],
)
def test_a_placeholder_is_what_the_marker_is_in_and_only_in_rules_of_the_pack(
    title: str, key: str, lines: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "probe.yml"
    path.write_text(PROBE.format(title=title, key=key), encoding="utf-8")
    assert load_rule(path, "other", named_by_stem=True).title == title
    if lines:
        with pytest.raises(PackError) as refusal:
            load_rule(path, "extended")
        assert [finding.line for finding in refusal.value.findings] == lines
    else:
        assert load_rule(path, "extended").name == "probe"


def test_with_values_only_prose_is_left_to_fill_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_of_the_pack(tmp_path / "pack")
    values = ("--value", "New-InboxRule", "--value", "Set-InboxRule", "--value", "New-InboxRule")
    assert new(root, "inbox_rule", "--like", "exchange_admin_cmdlet", *values) == 0
    rule = (root / "sigma/extended/inbox_rule.yml").read_text(encoding="utf-8")
    assert "    Operation|contains:\n      - New-InboxRule\n      - Set-InboxRule\n  condition" in rule
    assert MARKER not in (root / "tests/events/inbox_rule.yml").read_text(encoding="utf-8")
    assert len(re.findall(MARKER, rule)) == 6
    page = (root / "docs/rules/inbox_rule.md").read_text(encoding="utf-8")
    assert (
        page.startswith(f"# {PROSE['rule']['title']}\n") and "`detection-pack build` writes the rest" in page
    )
    assert all(
        f"- `{key}`: " in page for key in ("title", "description", "references", "falsepositives", "alert")
    )
    first, second = load_documents(Path("a"), rule)[0].data, load_pack(ROOT).rule("exchange_admin_cmdlet")
    assert first["id"] != second.id and first["tags"] == list(second.tags)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_of_the_pack(tmp_path_factory.mktemp("outer") / "pack")
    (root / "tests/events/has_events.yml").write_text("rule: has_events\n", encoding="utf-8")
    (root / "docs/rules").mkdir(exist_ok=True)
    (root / "docs/rules/has_page.md").write_text("x\n", encoding="utf-8")
    (root / "docs/rules/dangling.md").symlink_to(root / "nowhere")
    (root / "sigma/hunting").mkdir(exist_ok=True)
    (root / "sigma/hunting/broken.yml").write_text("title: [\n", encoding="utf-8")
    return root


LIKE = ("--like", "exchange_admin_cmdlet")
REFUSED = {
    "a name of another tier": ("suspicious_ews_client", *LIKE),
    "a name that a broken rule has": ("broken", *LIKE),
    "the name of a rule inside a correlation": ("cross_mailbox_access", *LIKE),
    "events that are there": ("has_events", *LIKE),
    "a page that is there": ("has_page", *LIKE),
    "a page that is a dangling link": ("dangling", *LIKE),
    "a path for a name": ("../../outside", *LIKE),
    "an absolute path for a name": ("/tmp/outside", *LIKE),
    "a name with a capital": ("New_rule", *LIKE),
    "a NUL in the name": ("new\0rule", *LIKE),
    "a rule that does not exist": ("new_rule", "--like", "no_such_rule"),
    "a rule that is broken": ("new_rule", "--like", "broken"),
    "a path for a rule": ("new_rule", "--like", "../core/exchange_admin_cmdlet"),
    "an unknown log source": ("new_rule", "--logsource", "product=linux"),
    "no log source": ("new_rule", "--logsource", ""),
    "half a log source": ("new_rule", "--logsource", "product=m365"),
    "a wildcard": ("new_rule", *LIKE, "--value", "New-*"),
    "a question mark": ("new_rule", *LIKE, "--value", "New-Inbox?"),
    "an empty value": ("new_rule", *LIKE, "--value", ""),
    "a short value": ("new_rule", *LIKE, "--value=-a1-"),
    "a line break": ("new_rule", *LIKE, "--value", "New-Inbox\nRule"),
    "a value that is the mark": ("new_rule", *LIKE, "--value", "FILL-IN-VALUE"),
    "a value that a platform cannot say": ("new_rule", *LIKE, "--value", "x" * 12_000),
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED.keys())
def test_refusal_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(root.parent)
    assert new(root, *arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(r"(error: \S.*|\S.*:\d+: .+); .+\n", said.err), said.err
    assert tree(root.parent) == before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.one_of(
        st.text(max_size=70),
        st.from_regex(NAME, fullmatch=True),
        st.text(alphabet="ab_./\\~$ \0\n", max_size=12),
    )
)
def test_any_name_gives_three_files_inside_the_pack_or_nothing(name: str, root: Path) -> None:
    before = tree(root.parent)
    code = new(root, *LIKE, "--", name)
    after = tree(root.parent)
    added = {path for path in after if path not in before}
    assert {path: after[path] for path in before} == before
    if code == 0:
        files = {f"pack/{part}/{name}.{end}" for part, end in _FILES}
        assert NAME.fullmatch(name) and added - {"pack/sigma/extended"} == files
        for path in files:
            (root.parent / path).unlink()
    else:
        assert code == 2 and not added


@pytest.mark.parametrize("obstacle", ["a file", "a link", "a full disk"])
def test_what_cannot_be_written_whole_is_not_written(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_of_the_pack(tmp_path / "pack")
    shutil.rmtree(root / "docs")
    if obstacle == "a file":
        (root / "docs").write_text("x", encoding="utf-8")
    elif obstacle == "a link":
        (tmp_path / "elsewhere").mkdir()
        (root / "docs").symlink_to(tmp_path / "elsewhere")
    else:
        chmod = Path.chmod

        def full(path: Path, mode: int) -> None:
            if "new_rule.md" in path.name:
                raise OSError(28, "No space left on device", str(path))
            chmod(path, mode)

        monkeypatch.setattr(Path, "chmod", full)
    before = tree(tmp_path)
    assert new(root, "new_rule", *LIKE) == 2
    assert re.fullmatch(r"\S.*:\d+: .+; .+\n", capsys.readouterr().err)
    assert tree(tmp_path) == before


#: Those that there is a yardstick for (`expected`).
MEASURED = [s for s in SOURCES if "service=exchange" in s.split(",") or "category=process_creation" in s]


def template_of(pack: Pack, source: str) -> Template:
    return from_log_source(pack, source) if "=" in source else like(pack, pack.rule(source))


def expected(source: str, record: Mapping[str, Any], values: list[str]) -> bool:
    """What the rule must say of a record, by the yardstick of the other tests."""
    event = Event("e", SYSMON if "powershell" in source or "windows" in source else M365, record)
    field, types = {
        "exchange_admin_cmdlet": ("Operation", (1,)),
        "product=m365,service=exchange": ("Operation", (1,)),
        "suspicious_ews_client": ("ClientInfoString", (2, 3, 50)),
    }.get(source, ("CommandLine", ()))
    if types and record.get("RecordType") not in types:
        return False
    # A rule begun from a log source alone says nothing, and means parts of words too.
    contains = model.contains if "=" in source else model.contains_whole_term
    if source == "onprem_powershell_collection":
        shell = str(event.record.get("Image") or "").rsplit("\\", 1)[-1].lower()
        if shell not in model.SHELLS:
            return False
    return any(contains(str(record.get(field) or ""), value) for value in values)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.sampled_from([name for name in CORE if not name.startswith("bulk")] + MEASURED),
    values=st.lists(
        st.one_of(
            st.text(alphabet="abMx1-_./\\ é", min_size=3, max_size=12),
            st.text(st.characters(codec="utf-8"), max_size=10),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_near_misses_are_what_they_say(source: str, values: list[str], pack: Pack) -> None:
    template = template_of(pack, source)
    try:
        forms = values_of(values)
    except PackError:
        return
    for value in values:
        assert list(SigmaString(sigma_value(value)).s) == [value]
        assert plain_text(sigma_value(value)) == value
    cases = cases_of(template, forms)
    for side, listed in cases.items():
        assert len(listed) >= LEAST_CASES, side
        for case in listed:
            record = {k: v for k, v in template.record.items() if k not in case.get("absent", ())}
            assert expected(source, {**record, **case["record"]}, values) == (side == "match"), case
    text = events_of("a", template.record, cases)
    assert load_documents(Path("a"), text)[0].data == {
        "rule": "a",
        "defaults": dict(template.record),
        **cases,
    }

"""The trap: a modifier that converts into something else on one platform than on the others.

Every modifier of Sigma, alone and in its legal chains, is either refused with the reason, or executed on all
platforms: what it must find and its near misses, event for event. So are the forms of conditions and files,
and the process fields that the platforms keep in another shape than Sysmon.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sigma.modifiers

from conftest import ROOT
from detection_pack.build.dist import Built, make
from detection_pack.languages.spl.spl_parser import macros_of
from detection_pack.model.event import Clock, Event, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.elastic.store import Store
from detection_pack.platforms.kusto import run as sentinel
from detection_pack.platforms.splunk import run as splunk
from support.sources import PROCESS

Record = dict[str, Any]
#: (what a detection is, records that it means, near misses)
Case = tuple[str, list[Record], list[Record]]

NOW = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)
HEAD = "title: Probe\nlogsource: {product: windows, category: process_creation}\nlevel: low\n"
ONE_LINE = re.compile(r"^\S.*:\d+: .+; .+$")


def line(*texts: str | None) -> list[Record]:
    """Records that differ in their command line; None is a record without one."""
    return [{} if text is None else {"CommandLine": text} for text in texts]


def field(name: str, *values: Any) -> list[Record]:
    return [{} if value is None else {name: value} for value in values]


def blob(text: str, encoding: str = "utf-8", before: int = 0) -> str:
    return base64.b64encode(b"x" * before + text.encode(encoding) + b"x").decode()


DIGEST = "987B65CD9B9F4E9A1AFD8F8B48CF64A7"
OTHER_DIGEST = "087b65cd9b9f4e9a1afd8f8b48cf64a7"

CONVERTED: dict[str, Case] = {
    "whole": ("CommandLine: aBc", line("abc", "ABC"), line("abcd", "xabc", "", None)),
    "contains": ("CommandLine|contains: abc", line("x abc y", "-ABC.", "xabc", "abc1"), line("ab c", None)),
    "contains in a path": ("Image|contains: abc", field("Image", "xABCy"), field("Image", "ab", None)),
    "startswith": ("CommandLine|startswith: abc", line("abcx", "ABC"), line(" abc", None)),
    "endswith": ("CommandLine|endswith: abc", line("xabc", "ABC"), line("abc ", None)),
    "all": ("CommandLine|contains|all: [abc, def]", line("def abc", "abcdef"), line("abc", "def", None)),
    "all without contains": ("CommandLine|all: ['*a-b*', '*c-d*']", line("xc-dxa-b"), line("a-b", None)),
    "wildcards in place of contains": ("CommandLine: '*abc*'", line("abc", "xABCy"), line("ab c", "", None)),
    "cased": ("CommandLine|cased: aBc", line("aBc"), line("abc", None)),
    "contains cased": ("CommandLine|contains|cased: aBc", line("xaBcx"), line("abc", None)),
    "neq": ("CommandLine|neq: abc", line("abcd", "", None), line("abc", "ABC")),
    "contains neq": ("CommandLine|contains|neq: [abc, def]", line("ab", None), line("xabc", "a abc", "def")),
    "contains all neq": (
        "CommandLine|contains|all|neq: [abc, def]",
        line("abc", None),
        line("abc def", "abcdef"),
    ),
    "base64": ("CommandLine|base64|contains: abc", line("x YWJj y", "-YWJjYWJj"), line("YWJ", "abc", None)),
    "base64offset": (
        "CommandLine|base64offset|contains: IEX (New",
        line(*(blob("IEX (New-Object", before=n) for n in range(3))),
        line(blob("IEY (New-Object"), "IEX (New", None),
    ),
    "wide base64offset": (
        "CommandLine|wide|base64offset|contains: Invoke",
        line(*(blob("Invoke-X", "utf-16-le", before=n) for n in range(3))),
        line(blob("Invoke-X"), "Invoke", None),
    ),
    "utf16be base64offset": (
        "CommandLine|utf16be|base64offset|contains: Invoke",
        line(*(blob("Invoke-X", "utf-16-be", before=n) for n in range(3))),
        line(blob("Invoke-X"), "Invoke", None),
    ),
    "windash": (
        "CommandLine|contains|windash: ' -abc '",
        line("x -ABC y", "x /abc y", "x –abc y", "x —abc y", "x ―abc y"),
        line("x abc y", "x -abcd y", "x +abc y", None),
    ),
    "windash all": (
        "CommandLine|contains|all|windash: [' -a ', ' /b ']",
        line("x /a -b "),
        line("x -a ", None),
    ),
    "re": ("CommandLine|re: 'ab[c-d]+e'", line("xabcdey"), line("xABCDEy", "abe", None)),
    "re i": ("CommandLine|re|i: 'ab[c-d]+e'", line("xABcDey"), line("abe", None)),
    "re s": ("CommandLine|re|s: 'a.b'", line("a\nb", "axb"), line("ab", None)),
    "re without s": ("CommandLine|re: 'a.b'", line("axb"), line("a\nb", None)),
    "re anchored": ("CommandLine|re: '^ab.*z$'", line("ab cz"), line("xab z", "ab zy", None)),
    "re all": ("CommandLine|re|all: ['a1', 'b.2']", line("bx2 a1"), line("a1", "bx2", None)),
    "exists": ("CommandLine|exists: true", line("x"), line("", None)),
    "exists not": ("CommandLine|exists: false", line("", None), line("x")),
    "gt": ("ProcessId|gt: 5", field("ProcessId", "6", "10"), field("ProcessId", "5", "4", None)),
    "gte": ("ProcessId|gte: 5", field("ProcessId", "5", "10"), field("ProcessId", "4", None)),
    "lt": ("ProcessId|lt: 5", field("ProcessId", "4"), field("ProcessId", "5", "10", None)),
    "lte": ("ProcessId|lte: 5", field("ProcessId", "5", "4"), field("ProcessId", "10", None)),
    "number": ("ProcessId: [5, '6']", field("ProcessId", "5", "6"), field("ProcessId", "56", None)),
    "number in a text": ("CommandLine: 5", line("5"), line("55", None)),
    "truth in a text": ("CommandLine: true", line("true", "TRUE"), line("truer", None)),
    "null": ("CommandLine: null", line(None, ""), line("x")),
    "empty": ("CommandLine: ''", line(None, ""), line("x")),
    "null, empty or a value": ("CommandLine: [null, '', a]", line(None, "", "A"), line("b")),
    "anything": ("CommandLine: '*'", line("x"), line("", None)),
    "one character": ("CommandLine: 'a?c'", line("abc", "A*C"), line("ac", "abbc", None)),
    "escaped wildcards": (r"CommandLine: 'a\*\?'", line("A*?"), line("abc", "a*b", None)),
    "backslashes": (
        r"CommandLine|contains: '\\\\srv\c$\'",
        line("x \\\\SRV\\c$\\y"),
        line("\\srv\\c$\\y", "\\\\srv\\c$", None),
    ),
    "wildcard inside": (
        "CommandLine|contains: ' -e* JAB'",
        line("x -enc JABx"),
        line("x -e", "JAB -e", None),
    ),
    "file name": (
        "Image|endswith: ['\\a.exe', '\\b c.exe']",
        field("Image", "C:\\x\\A.exe", "C:\\B C.exe"),
        field("Image", "C:\\xa.exe", "C:\\a.exe\\x", None),
    ),
    "quotes and umlauts": ("CommandLine|contains: '\"mü''ll\"'", line('x"MÜ\'LL"'), line('"mu\'ll"', None)),
    "user": ("User: bob", field("User", "CORP\\BOB", "bob"), field("User", "CORP\\bobby", "BOB\\al", None)),
    "user's end": ("User|endswith: '$'", field("User", "CORP\\PC$"), field("User", "C$\\al", None)),
    "user exists": ("User|exists: true", field("User", "CORP\\al"), field("User", "", None)),
    "user is absent": ("User: null", field("User", "", None), field("User", "CORP\\al")),
    "user or domain": (
        "User|contains: [AUTHORI, AUTORI]",
        field("User", "NT AUTHORITY\\SYSTEM", "AUTORITE NT\\x", "CORP\\authorizer"),
        field("User", "CORP\\SYSTEM", "AUTH\\ORI", None),
    ),
    "digests": (
        f"Hashes|contains: ['MD5={DIGEST}', 'SHA1={'A' * 40}']",
        field("Hashes", f"MD5={DIGEST},SHA256={'0' * 64}", f"sha1={'a' * 40},MD5={OTHER_DIGEST}"),
        field("Hashes", f"MD5={OTHER_DIGEST}", f"IMPHASH={DIGEST}", None),
    ),
    "integrity level": (
        "IntegrityLevel: [High, S-1-16-16384]",
        [
            {"IntegrityLevel": "High"},
            {"IntegrityLevel": "high", "EventID": 1},
            {"IntegrityLevel": "S-1-16-16384", "EventID": 4688},
        ],
        [{"IntegrityLevel": "Medium"}, {"IntegrityLevel": "S-1-16-12288", "EventID": 4688}, {}],
    ),
    "version resource": (
        "{Company: Acme, Product|contains: Tool, Description|endswith: kit, OriginalFileName: T.exe}",
        [{"Company": "ACME", "Product": "ToolX", "Description": "a Kit", "OriginalFileName": "t.EXE"}],
        [{"Company": "Acme", "Product": "Tool", "Description": "kits", "OriginalFileName": "t.exe"}, {}],
    ),
    "list of maps": (
        "[{Image: a}, {CommandLine: b}]",
        [{"Image": "A"}, {"CommandLine": "b"}],
        [{"Image": "b"}, {}],
    ),
}

#: The same in rules that say ``whole_terms: true``; a near miss may be a piece of a word.
WHOLE_TERMS: dict[str, Case] = {
    "terms: contains": ("CommandLine|contains: abc", line("x abc y", "-ABC."), line("xabc", "abc1", None)),
    "terms: contains in a path": ("Image|contains: abc", field("Image", "x\\ABC.y"), field("Image", "xABCy")),
    "terms: all": (
        "CommandLine|contains|all: [abc, def]",
        line("def abc"),
        line("abc", "def", "abcdef", None),
    ),
    "terms: all without contains": (
        "CommandLine|all: ['*a-b*', '*c-d*']",
        line("xc-dxa-b"),
        line("a-b", None),
    ),
    "terms: startswith": ("CommandLine|startswith: abc", line("abcx", "ABC"), line(" abc", None)),
    "terms: endswith": ("CommandLine|endswith: abc", line("xabc", "ABC"), line("abc ", None)),
    "terms: contains cased": ("CommandLine|contains|cased: aBc", line("xaBcx"), line("abc", None)),
    "terms: contains neq": ("CommandLine|contains|neq: [abc, def]", line("xabc", None), line("a abc", "def")),
    "terms: contains all neq": (
        "CommandLine|contains|all|neq: [abc, def]",
        line("abc", "abcdef", None),
        line("abc def"),
    ),
    "terms: an own wildcard": ("CommandLine|contains: 'a*c'", line("xaBcx", "ac"), line("ab", None)),
    "terms: base64offset": (
        "CommandLine|base64offset|contains: IEX (New",
        line(*(blob("IEX (New-Object", before=n) for n in range(3))),
        line(blob("IEY (New-Object"), None),
    ),
    "terms: windash": (
        "CommandLine|contains|windash: '-abc'",
        line("x -ABC y", "x/abc y", "x –abc"),
        line("x -abcd", "x abc", None),
    ),
    "terms: user or domain": (
        "User|contains: [AUTHORI, AUTORI]",
        field("User", "NT AUTHORI\\SYSTEM", "CORP\\x autori"),
        field("User", "NT AUTHORITY\\SYSTEM", "CORP\\authorizer", None),
    ),
    "terms: digests": (
        f"Hashes|contains: ['MD5={DIGEST}', 'SHA1={'A' * 40}']",
        field("Hashes", f"MD5={DIGEST},SHA256={'0' * 64}"),
        field("Hashes", f"MD5={OTHER_DIGEST}", None),
    ),
    "terms: no letter or digit": ("CommandLine|contains: '&&'", line("a&&b"), line("a&b", None)),
}
CASES = CONVERTED | WHOLE_TERMS

#: Everything that is refused, with the reason. A backslash in a reason is the expression's.
REFUSED: dict[str, tuple[str, str]] = {
    "utf16": ("CommandLine|utf16|base64offset|contains: abc", "byte order mark"),
    "wide alone": ("CommandLine|wide|contains: abc", "NUL beside each"),
    "utf16be alone": ("CommandLine|utf16be|contains: abc", "NUL beside each"),
    "expand": ("CommandLine|expand: '%users%'", "the placeholder"),
    "cidr on text": ("CommandLine|cidr: 10.0.0.0/8", '"CommandLine" .* no addresses'),
    "cidr on a number": ("ProcessId|cidr: 10.0.0.0/8", "is a number"),
    "fieldref": ("Image|fieldref: ParentImage", "Lucene cannot compare two fields"),
    "fieldref startswith": ("Image|fieldref|startswith: ParentImage", "Lucene cannot compare two fields"),
    "fieldref endswith": ("Image|fieldref|endswith: ParentImage", "Lucene cannot compare two fields"),
    "fieldref contains": ("Image|fieldref|contains: ParentImage", "Lucene cannot compare two fields"),
    "re m": ("CommandLine|re|m: '^ab'", "the m flag"),
    "re lookahead": ("CommandLine|re: '(?=a)b'", r'has "\(\?=", which not every platform has'),
    "re back reference": ("CommandLine|re: '(a)\\1'", r'has "\\1", which not every platform'),
    "re possessive": ("CommandLine|re: 'a++'", "possessive"),
    "re invalid": ("CommandLine|re: '('", "is invalid"),
    "re of a piece": ("CommandLine|contains|re: abc", "only applicable to unmodified values"),
    "day": ("UtcTime|day: 3", "time zone"),
    "hour": ("UtcTime|hour: 3", "time zone"),
    "minute": ("UtcTime|minute: 3", "time zone"),
    "week": ("UtcTime|week: 3", "time zone"),
    "month": ("UtcTime|month: 3", "time zone"),
    "year": ("UtcTime|year: 2026", "time zone"),
    "size of a text": ("CommandLine|gt: 5", '"CommandLine" .* holds no number'),
    "size by a text": ("ProcessId|gt: abc", "cannot take the value"),
    "piece of a number": ("ProcessId|startswith: '5'", "holds a number"),
    "contains a number": ("CommandLine|contains: 5", "cannot take the value"),
    "exists what": ("CommandLine|exists: 'yes'", "cannot take the value"),
    "no modifier": ("CommandLine|nosuch: a", "has no modifier 'nosuch'"),
    "no value": ("CommandLine: []", "list without a value"),
    "user with its domain": ("User: 'NT AUTHORITY\\SYSTEM'", "no domain in it"),
    "user's beginning": ("User|startswith: NT", "no domain in it"),
    "pieces of a user": ("User|contains|all: [AUTH, SYS]", "no domain in it"),
    "user without a piece": ("User|contains|neq: AUTH", "no domain in it"),
    "user by expression": ("User|re: 'NT.*'", "account and its domain as one text"),
    "import hash": (f"Hashes|contains: 'IMPHASH={DIGEST}'", "no column has an IMPHASH"),
    "piece of a digest": ("Hashes|contains: 'MD5=98'", "has its own field"),
    "digest of no kind": (f"Hashes|contains: '{DIGEST}'", "has its own field"),
    "whole hashes": (f"Hashes: 'MD5={DIGEST}'", "has its own field"),
    "all digests": (f"Hashes|contains|all: ['MD5={DIGEST}', 'MD5={OTHER_DIGEST}']", "each would be asked"),
    "not a digest": (f"Hashes|contains|neq: 'MD5={DIGEST}'", "be asked of each"),
    "digest by case": (f"Hashes|contains|cased: 'MD5={DIGEST}'", "its own letter case"),
    "no digests": ("Hashes: null", "compare it with a value"),
    "no integrity level": ("IntegrityLevel: [null, High]", "compare it with a value"),
    "integrity level absent": ("IntegrityLevel|exists: false", "compare it with a value"),
    "not the integrity level": ("IntegrityLevel|neq: High", "be asked of each"),
    "integrity level by case": ("IntegrityLevel|cased: High", "its own letter case"),
    "working directory": ("CurrentDirectory|contains: x", "has no working directory"),
    "keywords": ("[abc, def]", "a value without a field"),
    "keyword expression": ("{'|re': abc}", "a value without a field"),
    "unknown field": ("CommandLin: x", 'did you mean "CommandLine"'),
}

#: Whole files: conditions and forms of Sigma's past.
FILES: dict[str, tuple[str, str]] = {
    "two conditions": (
        "detection: {a: {Image: x}, b: {Image: y}, condition: [a, b]}\n",
        "list of conditions",
    ),
    "count": ("detection: {a: {Image: x}, condition: a | count() > 5}\n", "old form of a correlation"),
    "near": ("detection: {a: {Image: x}, b: {Image: y}, condition: a | near b}\n", "old form of a correl"),
    "timeframe": ("detection: {a: {Image: x}, timeframe: 5m, condition: a}\n", '"timeframe:" is the old'),
    "two of them": ("detection: {a: {Image: x}, condition: 2 of them}\n", "condition cannot be read"),
    "half a condition": ("detection: {a: {Image: x}, condition: a and}\n", "condition cannot be read"),
    "no such selection": (
        "detection: {a: {Image: x}, condition: a and c}\n",
        '"c" in the condition names no sel',
    ),
    "no such selections": (
        "detection: {a: {Image: x}, condition: a and 1 of b_*}\n",
        '"b_\\*" in the condition has no sel',
    ),
    "no condition": ("detection: {a: {Image: x}}\n", "condition"),
    "action global": (
        "action: global\n---\ndetection: {a: {Image: x}, condition: a}\n",
        '"action:" is the old',
    ),
    "two rules": (
        "detection: {a: {Image: x}, condition: a}\n---\n"
        + HEAD
        + "detection: {a: {Image: y}, condition: a}\n",
        "more than one rule",
    ),
    "a filter": ("filter: {rules: any, s: {Image: x}, condition: s}\n", "is a Sigma filter"),
}

#: Rules for Office 365, by service: what never reaches one of the platforms, or nothing calls so.
AUDIT: dict[str, tuple[str, str, str]] = {
    "alerts": ("threat_management", "{Operation: AlertTriggered}", "OfficeActivity holds Exchange, Share"),
    "anomalies": ("threat_detection", "{Operation: AlertTriggered}", "OfficeActivity holds Exchange, Share"),
    "a workload": ("audit", "{Workload: AzureActiveDirectory}", "OfficeActivity holds Exchange, SharePoint"),
    "a directory": ("audit", "{Operation: 'Add user.'}", "activities of Microsoft Entra never reach"),
    "a sign-in": ("audit", "{Operation: UserLoggedIn}", "activities of Microsoft Entra never reach"),
    "its client": ("audit", "{ApplicationId: x}", "sign-ins, which alone have it, never reach"),
    "an old name": ("exchange", "{eventSource: Exchange}", "no audit record has it; write Workload"),
    "parameters": ("exchange", "{Parameters|contains: ForwardTo}", "no text holds them all"),
}

#: Modifiers that only change another one, and the case that has them.
_NAMES = {"ignorecase": "i", "multiline": "m", "dotall": "s"}


def rule(folder: Path, name: str, detection: str) -> Rule:
    path = folder / f"{re.sub('[^a-z0-9]+', '_', name)}.yml"
    body = detection if detection.startswith(("detection", "action", "filter")) else _selection(detection)
    key = "whole_terms: true\n" if name in WHOLE_TERMS else ""
    path.write_text(HEAD + key + body, encoding="utf-8")
    return load_rule(path, "other", named_by_stem=True)


def _selection(text: str) -> str:
    mapping = text if text.startswith(("[", "{")) else f"\n    {text}"
    return f"detection:\n  s: {mapping}\n  condition: s\n"


def build(pack: Pack, rules: list[Rule]) -> Built:
    return make(Pack(ROOT, pack.version, tuple(sorted(rules, key=lambda r: r.name)), pack.pipelines))


def test_every_modifier_is_in_a_table() -> None:
    told = " ".join([*(text for text, _, _ in CONVERTED.values()), *(text for text, _ in REFUSED.values())])
    named = {_NAMES.get(name, name) for name in sigma.modifiers.modifier_mapping}
    assert {name for name in named if not re.search(rf"\|{name}\b", told)} == set()


@pytest.fixture(scope="module")
def found(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, set[str]]]:
    """Platform -> case -> ids of the events of the case that its query finds."""
    folder = tmp_path_factory.mktemp("forms")
    rules = {name: rule(folder, name, text) for name, (text, _, _) in CASES.items()}
    files = build(pack, list(rules.values())).files
    events = [
        Event(f"{name} {sign}{number}", PROCESS, {"UtcTime": "2026-03-10 09:15:00", **record})
        for name, (_, hits, misses) in CASES.items()
        for sign, listed in (("+", hits), ("-", misses))
        for number, record in enumerate(listed)
    ]
    workspace, search = sentinel.Workspace(events), splunk.Workspace(events)
    macros = macros_of(files["splunk/macros.conf"].decode())
    out: dict[str, dict[str, set[str]]] = {"sentinel": {}, "splunk": {}, "elastic": {}}
    with Store(events) as store:
        for name, made in rules.items():
            kql = files[f"sentinel/queries/{made.name}.kql"].decode()
            (hit,) = sentinel.verdicts(workspace, kql, RuleEntry(made.name), Clock(NOW), made.name)
            rows = search.search(files[f"splunk/queries/{made.name}.spl"].decode(), macros, NOW)
            ids = {
                "sentinel": set(hit.events),
                "splunk": {event for row in rows for event in row.events},
                "elastic": set(store.lucene(files[f"elastic/queries/{made.name}.lucene"].decode())),
            }
            for platform, every in ids.items():
                out[platform][name] = {i for i in every if i.rpartition(" ")[0] == name}
    return out


@pytest.mark.parametrize("platform", ["sentinel", "splunk", "elastic"])
@pytest.mark.parametrize("name", CASES)
def test_a_form_finds_what_sigma_means(
    name: str, platform: str, found: Mapping[str, Mapping[str, set[str]]]
) -> None:
    _, hits, _ = CASES[name]
    assert found[platform][name] == {f"{name} +{number}" for number in range(len(hits))}


@pytest.mark.parametrize("name", [*REFUSED, *FILES])
def test_a_form_is_refused_with_its_reason(name: str, pack: Pack, tmp_path: Path) -> None:
    text, reason = (REFUSED | FILES)[name]
    with pytest.raises(PackError) as refusal:
        build(pack, [rule(tmp_path, name, text)])
    lines = [str(finding) for finding in refusal.value.findings]
    assert all(ONE_LINE.match(one) for one in lines)
    assert any(re.search(reason, one) for one in lines), lines


@pytest.mark.parametrize("name", AUDIT)
def test_an_audit_rule_is_refused_with_its_reason(name: str, pack: Pack, tmp_path: Path) -> None:
    service, selection, reason = AUDIT[name]
    path = tmp_path / "probe.yml"
    source = f"logsource: {{product: m365, service: {service}}}"
    path.write_text(f"title: Probe\n{source}\nlevel: low\n{_selection(selection)}", encoding="utf-8")
    with pytest.raises(PackError) as refusal:
        build(pack, [load_rule(path, "other", named_by_stem=True)])
    lines = [str(finding) for finding in refusal.value.findings]
    assert all(ONE_LINE.match(one) for one in lines)
    assert any(re.search(reason, one) for one in lines), lines

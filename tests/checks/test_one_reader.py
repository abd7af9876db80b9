"""The trap: two commands that read a rule each in its own way, and say different things of the same fault.

Whatever `build` says of a rule, of anybody's or of the pack's own, `validate` says of it too: the same line,
the same words and the same hint; and what `build` refuses is an error. That is held over the faults of
`data/faults.yml`, the files of tests/hostile, and rules with up to four random mutations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from checks.test_validate import FAULTS
from conftest import ROOT
from detection_pack.build import outcomes
from detection_pack.build.outcomes import Setting, outcome, outcomes_of_files
from detection_pack.checks.validate import validate
from detection_pack.cli import main
from detection_pack.model import rule_reader
from detection_pack.model.findings import Finding
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pack import pack_version
from detection_pack.model.pipeline import load_pipelines
from detection_pack.model.rule_files import rule_files
from detection_pack.model.rule_reader import read_rule
from detection_pack.model.sigma_faults import sigma_faults
from detection_pack.platforms.diagnosis import Diagnosis
from detection_pack.platforms.platform import platform
from support import corpus, rule_folders
from support.checkout import copy_of_the_sources
from support.hostile_rules import rule_paths

Said = tuple[str, int, str, str]


@cache
def setting() -> Setting:
    return Setting(load_pipelines(ROOT), pack_version(ROOT), sources=load_log_sources(ROOT))


def said(findings: Iterable[Finding]) -> set[Said]:
    return {(f.path, f.line, f.what, f.todo) for f in findings}


def unlike(folder: Path) -> tuple[list[Said], list[str]]:
    """What `build --rules` says of the folder's files and `validate` does not, and the files that the one
    refuses and the other has no error of."""
    built = list(outcomes_of_files(rule_files(ROOT, folder), setting(), 1, folder))
    validated = validate(ROOT, [folder], execute=False)
    missing, accepted = _unlike([(one.path, one.findings) for one in built], validated)
    warned = said(warning for one in built for warning in one.warnings)
    return [*missing, *sorted(warned - said(validated))], accepted


def _unlike(
    built: Sequence[tuple[str, Sequence[Finding]]], validated: Sequence[Finding]
) -> tuple[list[Said], list[str]]:
    wrong = {finding.path for finding in validated if finding.severity == "error"}
    missing = said(finding for _, findings in built for finding in findings) - said(validated)
    # A filter that a platform cannot say refuses the rule, and stands in another file.
    listed = [(path, {path, *(finding.path for finding in findings)}) for path, findings in built if findings]
    return sorted(missing), [path for path, about in listed if not about & wrong]


# ---- anybody's rules -------------------------------------------------------------------------------------
def test_the_hostile_files(tmp_path: Path) -> None:
    for path in rule_paths():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert unlike(tmp_path) == ([], [])


def test_the_known_faults_in_anybodys_rules(tmp_path: Path) -> None:
    for number, fault in enumerate(FAULTS.values()):
        if fault.file.startswith("sigma/"):
            text = (ROOT / fault.file).read_text(encoding="utf-8").replace(fault.old, fault.new, 1)
            (tmp_path / f"fault_{number}.yml").write_text(text, encoding="utf-8")
    assert len(list(tmp_path.iterdir())) >= 40
    assert unlike(tmp_path) == ([], [])


@pytest.mark.parametrize("name", rule_folders.FOLDERS)
def test_files_that_belong_together(name: str, tmp_path: Path) -> None:
    folder = rule_folders.write(tmp_path, rule_folders.FOLDERS[name])
    assert unlike(folder) == ([], [])


def test_a_platform_without_the_data(tmp_path: Path) -> None:
    """Whatever log source the pack has no data of on some platform: build refuses a rule there."""
    lacking = [source for source in setting().sources.values() if source.absent]
    for source in lacking:
        stated = dict(source.logsources[0])
        text = f"title: T\nlogsource: {stated}\ndetection: {{s: {{Nobody: plain}}, condition: s}}\n"
        (tmp_path / f"{source.name}.yml").write_text(text, encoding="utf-8")
    assert lacking and unlike(tmp_path) == ([], [])


def test_files_named_one_by_one_belong_together(tmp_path: Path) -> None:
    folder = rule_folders.write(tmp_path, rule_folders.FOLDERS["a faulty filter"])
    paths = sorted(folder.glob("*.yml"))
    assert said(validate(ROOT, paths, execute=False)) == said(validate(ROOT, [folder], execute=False))


FIELDS = (
    "Operation", "Operatoin", "UserId", "RecordType", "LogonType", "ClientIP", "Parameters",
    "OperationProperties", "MailboxOwnerUPN", "User", "Hashes", "Image", "CommandLine", "IntegrityLevel", "",
    "x y", "a.b", "*",
)  # fmt: skip
MODIFIERS = (
    "contains", "startswith", "endswith", "all", "re", "cidr", "base64", "base64offset", "wide", "utf16",
    "windash", "exists", "fieldref", "cased", "expand", "gt", "lte", "neq", "i", "contians", "minute",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 5, -1, 1.5, 10**16, "", " ", "*", "?", "ab", "a*b", r"\*", r"a\\*", "x" * 300,
    "FILL-IN: more", "(a+)+b", "a(", "a(?!b)", "[[a]", "a?" * 30, "10.0.0.0/8", "10.0.0", "%admins%", "é",
    "ExchangeAdmn", "Owner", "ExchangeItem", "CONTOSO\\bob", "MD5=0", "1h", "30d", "2026-13-01",
    "attack.t9999", "{Operatoin}", "{count}", [], {}, ["a", 5], [None], {"a": "b"}, [["a"]],
    [{"UserId": "x"}, "y"],
)  # fmt: skip
CONDITIONS: tuple[Any, ...] = (
    "selection and", "selektion", "1 of sel*", "1 of x*", "all of them", "not 1 of them", "(selection", "",
    "5 of them", "selection | count() > 5", "selection or not selection", 5, None, ["selection", "x"], [],
    "not (not selection)",
)  # fmt: skip
CORRELATIONS: tuple[Any, ...] = (
    {"type": "event_count", "rules": ["x"], "timespan": "1h", "condition": {"gte": 2}},
    {"type": "value_count", "rules": "x", "timespan": "90s", "condition": {"gte": 2, "field": ["User", "x"]}},
    {"type": "temporal", "rules": ["x", "y"], "timespan": "1x", "group-by": "UserId"},
    {"type": "temporal", "rules": ["x"], "timespan": "2d", "aliases": {"a": {"x": "UserId"}}},
    {"type": "value_median", "rules": ["x"], "timespan": "1M", "condition": {"gt": 1.5, "field": "UserId"}},
    [], "x", {},
)  # fmt: skip
FILTERS: tuple[Any, ...] = (
    {"rules": "any", "s": {"User": "x"}, "condition": "not s"},
    {"rules": ["exchange_admin_cmdlet", "x"], "s": {"UserId|contains": ""}, "condition": "not 1 of s*"},
    {"rules": ["x"], "s": {"UserId|re": "a(?!b)"}, "t": ["x"], "condition": "not all of them"},
    {"rules": [], "_s": {"Nobody": 5}, "condition": "not _s and s"},
    {"s": {"UserId": "x"}, "condition": ["s"]},
    "x", {},
)  # fmt: skip
KEYS = ("title", "name", "status", "level", "date", "tags", "logsource", "alert", "lookback", "whole_terms",
        "detection", "correlation", "required_tables", "references", "action", "filter", "x")  # fmt: skip

BASES = [
    *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "sigma").rglob("*.yml"))),
    *(rule.text for rule in corpus.rules(40, seed=11)),
]

Place = tuple[Any, ...]


def places(node: Any, here: Place = ()) -> list[Place]:
    """Every place below a node of plain data."""
    named = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, child in named for found in ((*here, key), *places(child, (*here, key)))]


def parent_of(data: Any, place: Place) -> Any:
    for key in place[:-1]:
        data = data[key]
    return data


def rename(data: Any, place: Place, key: Any) -> None:
    parent = parent_of(data, place)
    if isinstance(parent, dict):
        items = [(key if old == place[-1] else old, value) for old, value in parent.items()]
        parent.clear()
        parent.update(items)


def mutated(draw: Callable[[st.SearchStrategy[Any]], Any], documents: list[Any]) -> None:
    """Change one thing in a file's documents."""
    kind = draw(
        st.sampled_from(
            ["value", "key", "modifier", "item", "condition", "gone", "correlation", "filter", "top"]
        )
    )
    if kind == "filter":
        source = {"product": draw(st.sampled_from(["m365", "windows", None]))}
        stated = draw(st.sampled_from(FILTERS).map(deepcopy))
        documents.append({"title": "F", "logsource": source, "filter": stated})
        return
    mappings = [document for document in documents if isinstance(document, dict)]
    if kind == "correlation":
        documents.append({"title": "C", "correlation": draw(st.sampled_from(CORRELATIONS).map(deepcopy))})
        return
    if not mappings:
        return
    document = draw(st.sampled_from(mappings))
    if kind == "top":
        document[draw(st.sampled_from(KEYS))] = draw(st.sampled_from(VALUES).map(deepcopy))
        return
    detection = document.get("detection")
    if kind == "condition" and isinstance(detection, dict):
        detection["condition"] = draw(st.sampled_from(CONDITIONS).map(deepcopy))
        return
    if kind == "item" and isinstance(detection, dict):
        selections = [value for value in detection.values() if isinstance(value, dict)]
        key = "|".join(
            [draw(st.sampled_from(FIELDS)), *draw(st.lists(st.sampled_from(MODIFIERS), max_size=2))]
        )
        (draw(st.sampled_from(selections)) if selections else detection)[key] = draw(
            st.sampled_from(VALUES).map(deepcopy)
        )
        return
    listed = places(document)
    if not listed:
        return
    place = draw(st.sampled_from(listed))
    if kind == "gone":
        del parent_of(document, place)[place[-1]]
    elif kind == "modifier":
        rename(document, place, f"{place[-1]}|{draw(st.sampled_from(MODIFIERS))}")
    elif kind == "key":
        rename(document, place, draw(st.sampled_from([*FIELDS, *KEYS, 5])))
    else:
        parent_of(document, place)[place[-1]] = draw(st.sampled_from(VALUES).map(deepcopy))


@st.composite
def rules(draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """A valid rule with up to four mutations, as a file."""
    documents = list(yaml.safe_load_all(draw(st.sampled_from(BASES))))
    for _ in range(draw(st.integers(1, 4))):
        mutated(draw, documents)
    return str(yaml.dump_all(documents, Dumper=Plain, sort_keys=False, allow_unicode=True))


class Plain(yaml.SafeDumper):
    """Without aliases, which no rule may have."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(rules(), min_size=8, max_size=8))
def test_mutated_rules(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    for number, text in enumerate(texts):
        (folder / f"rule_{number}.yml").write_text(text, encoding="utf-8")
    missing, accepted = unlike(folder)
    for path in {*accepted, *(path for path, *_ in missing)}:
        note(Path(path).read_text(encoding="utf-8"))
    assert (missing, accepted) == ([], [])


# ---- the pack's own --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_sources(tmp_path_factory.mktemp("pack"))


def of_the_pack(path: Path) -> list[Finding]:
    """What a build of the pack says of one of its rules."""
    reading = read_rule(path, path.parent.name)
    if reading.rule is None or reading.findings:
        return list(reading.findings)
    return list(outcome(reading.rule, setting()).findings)


def test_the_known_faults_in_the_packs_own_rules(root: Path) -> None:
    """All in one run, each in a file of its own: what two files share only `validate` looks at here."""
    folder = root / "sigma" / "extended"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, fault in enumerate(FAULTS.values()):
        if not fault.file.startswith("sigma/"):
            continue
        path = folder / f"{Path(fault.file).stem}_{number}.yml"
        text = (ROOT / fault.file).read_text(encoding="utf-8").replace(fault.old, fault.new, 1)
        path.write_text(
            text.replace(f"\nname: {Path(fault.file).stem}\n", f"\nname: {path.stem}\n"), encoding="utf-8"
        )
        paths.append(path)
    built = [(str(path), of_the_pack(path)) for path in paths]
    assert sum(bool(findings) for _, findings in built) >= 30
    assert _unlike(built, validate(root, paths, execute=False)) == ([], [])
    for path in paths:
        path.unlink()


# ---- the comparison itself -------------------------------------------------------------------------------
FAULTY = """title: T
logsource: {product: m365, service: exchange}
detection: {s: {UserId|re: 'a(?!b)', UsrKey: abc, LogonType: Delegat}, condition: s}
"""


def test_a_build_with_words_of_its_own_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty.yml").write_text(FAULTY, encoding="utf-8")
    assert unlike(tmp_path) == ([], [])
    nothing = Diagnosis((), read_rule(tmp_path / "faulty.yml", "other").rule, True)  # type: ignore[arg-type]
    monkeypatch.setattr(outcomes, "diagnose", lambda *_: nothing)
    missing, _ = unlike(tmp_path)
    assert {line for _, line, _, _ in missing} == {3}


def test_what_is_about_several_platforms_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "faulty.yml"
    path.write_text(FAULTY, encoding="utf-8")
    [made] = outcomes_of_files([(path, "other")], setting(), 1)
    assert len(made.findings) == len({finding.what for finding in made.findings})
    assert set(made.refused) == set(setting().platforms)
    for name, findings in made.refused.items():
        assert any('field "UsrKey" is unknown' in f.what for f in findings), name
    assert sum("UsrKey" in finding.what for finding in made.findings) == 1


# ---- what nobody foresaw ---------------------------------------------------------------------------------
PLAIN = """title: T
logsource: {product: m365, service: exchange}
detection: {s: {UserId: plain}, condition: s}
"""


def _broken(*_: object, **__: object) -> object:
    raise IndexError("tuple index out of range")


def test_a_platform_that_fails_at_one_rule_builds_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the product itself, at one rule: it is told with the rule's file, and nothing else stops."""
    for name in ("one", "two"):
        (tmp_path / f"{name}_rule.yml").write_text(PLAIN, encoding="utf-8")
    chosen = platform("splunk")
    part = chosen.part
    monkeypatch.setattr(
        chosen, "part", lambda rule, *rest: _broken() if rule.name == "one_rule" else part(rule, *rest)
    )
    one, two = outcomes_of_files(rule_files(ROOT, tmp_path), setting(), 1)
    assert set(one.parts) == {"defender", "elastic", "sentinel"} and set(one.refused) == {"splunk"}
    [finding] = one.findings
    assert str(finding).startswith(f"{tmp_path}/one_rule.yml:1: cannot be built (IndexError: ")
    assert not two.findings and set(two.parts) == set(setting().platforms)
    assert finding in validate(ROOT, [tmp_path], execute=False)


def test_a_reader_that_fails_at_one_rule_reads_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}_rule.yml").write_text(PLAIN, encoding="utf-8")
    judged = sigma_faults
    monkeypatch.setattr(
        rule_reader,
        "sigma_faults",
        lambda r, rule, *rest: _broken() if rule.name == "one_rule" else judged(r, rule, *rest),
    )
    one, two = outcomes_of_files(rule_files(ROOT, tmp_path), setting(), 1)
    assert [str(f).partition(": ")[2][:30] for f in one.findings] == ["cannot be read (IndexError: tu"]
    assert not two.findings


def test_an_escaped_wildcard_is_built_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes a folder and an asterisk means all that is in it, and gets a literal asterisk."""
    (tmp_path / "rules").mkdir()
    path = tmp_path / "rules" / "folder.yml"
    path.write_text(PLAIN.replace("plain", r"'*\Temp\*'").replace("UserId", "UserKey"), encoding="utf-8")
    assert main(["--root", str(ROOT), "build", "--rules", str(path.parent), "--out", f"{tmp_path}/out"]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}:3: warning: ") and "no wildcard" in line
    assert unlike(path.parent) == ([], [])
    path.write_text(PLAIN.replace("plain", r"'*\Temp\\*'"), encoding="utf-8")
    assert main(["--root", str(ROOT), "build", "--rules", str(path.parent), "--out", f"{tmp_path}/out"]) == 0
    assert capsys.readouterr().err == ""

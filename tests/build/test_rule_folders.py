"""The trap: files that are read one by one although they belong together.

A filter that is left out makes its rule fire on what somebody has excluded; a correlation whose rule stands
in another file is lost; of two rules of one name one disappears. What is built is executed on every platform.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from conftest import ROOT
from detection_pack.build import dist as build
from detection_pack.build import outcomes
from detection_pack.cli import main
from detection_pack.model import rule_reader
from detection_pack.model.event import Clock, Event
from detection_pack.model.findings import PackError
from detection_pack.model.record_time import parse_time
from detection_pack.model.rule_files import Label, distinct_names
from detection_pack.platforms.platform import platform
from support.engines import ENGINES, IMPORTS
from support.rule_folders import END, FOLDERS, NET, WHOAMI, correlation, rule, sigma_filter, write
from support.sources import PROCESS


def made(folder: Path, keep_going: bool = True) -> build.Built:
    return build.make_folder(ROOT, folder, keep_going)


def names(built: build.Built) -> list[str]:
    return sorted(
        p.split("/")[-1].removesuffix(".kql") for p in built.files if p.startswith("sentinel/queries/")
    )


def refused(built: build.Built, folder: Path) -> list[str]:
    return [str(finding).removeprefix(f"{folder}/") for finding in built.refused]


def warned(built: build.Built, folder: Path) -> list[str]:
    return [str(finding).removeprefix(f"{folder}/").replace(f"{folder}/", "") for finding in built.warnings]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "rules", FOLDERS[request.param])


def found(built: build.Built, out: Path, records: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """What every rule finds, the same by every platform's queries and imports."""
    build.write(built, out)
    events = [
        Event(name, PROCESS, {"UtcTime": f"2026-03-10 09:00:{n:02}", "Id": name, **record})
        for n, (name, record) in enumerate(records.items())
    ]
    moment = parse_time("2026-03-10 09:05:00")
    assert moment is not None
    entries = build.rule_entries(out)
    answers: dict[str, list[set[str]]] = {entry.name: [] for entry in entries}
    for name, run in itertools.product(ENGINES, (ENGINES, IMPORTS)):
        for hit in run[name](out, entries, events, Clock(moment)):
            answers[hit.rule].append(set(hit.events) or {str(v).casefold() for _, v in hit.group or ()})
    united = {name: set().union(*listed) for name, listed in answers.items()}
    for name, listed in answers.items():
        assert all(answer == listed[0] for answer in listed), (name, listed)
    return united


def process(program: str, computer: str = "PC-1", more: str = "") -> dict[str, str]:
    image = f"C:\\Windows\\System32\\{program}.exe"
    return {"Image": image, "Computer": computer, "CommandLine": f"{program}.exe{more}"}


# ---- several rules in a file -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("two rules", ["one", "two"]),
        ("rules by title", ["pair_one_1", "pair_two"]),
        ("rules of one title", ["pair_same_1", "pair_same_2"]),
    ],
    indirect=["folder"],
)
def test_every_rule_of_a_file_is_built(folder: Path, expected: list[str]) -> None:
    built = made(folder, keep_going=False)
    assert names(built) == expected and not built.warnings


def test_one_refused_rule_of_a_file_stops_no_other(tmp_path: Path) -> None:
    text = rule("One", "whoami", "one") + END + rule("Two", "net", "two").replace("endswith", "endswiht")
    built = made(write(tmp_path, {"pair.yml": text}))
    [line] = refused(built, tmp_path)
    assert names(built) == ["one"] and line.startswith("pair.yml:13: ") and "endswiht" in line


# ---- correlations ----------------------------------------------------------------------------------------
ELSEWHERE = 'is not built on its own: the correlation "Many" ('


@pytest.mark.parametrize("folder", ["a correlation elsewhere", "a correlation by id"], indirect=True)
def test_a_correlation_finds_its_rule_in_another_file(folder: Path, tmp_path: Path) -> None:
    built = made(folder, keep_going=False)
    assert names(built) == ["many"]
    [line] = warned(built, folder)
    assert "base.yml:1: warning: " in line and ELSEWHERE in line and "many.yml:1)" in line
    records = {f"{computer} {n}": process("whoami", computer) for computer, n in
               [("PC-1", 1), ("PC-1", 2), ("PC-1", 3), ("PC-2", 1), ("PC-2", 2)]}  # fmt: skip
    assert found(built, tmp_path / "out", records)["many"] == {"pc-1"}


@pytest.mark.parametrize("folder", ["both", "both, as the specification has it"], indirect=True)
def test_what_generates_is_built_with_its_rules(folder: Path) -> None:
    built = made(folder, keep_going=False)
    assert names(built) == ["base", "many"] and not built.warnings


@pytest.mark.parametrize(
    ("folder", "expected", "line"),
    [
        ("an unknown rule", ["base"], 'many.yml:4: correlates "base_rul", which is the name'),
        ("two of a name", ["a_base", "b_base"], "which is the name of several rules"),
        ("a correlation of a correlation", ["many"], 'more.yml:4: correlates "many", which is a corr'),
        ("a faulty base", [], "base.yml:6: "),
        ("a broken base", [], "base.yml:10: is not a mapping"),
    ],
    indirect=["folder"],
)  # fmt: skip
def test_what_a_correlation_refers_to_is_its_own_fault(folder: Path, expected: list[str], line: str) -> None:
    built = made(folder)
    assert names(built) == expected
    assert any(line in said for said in refused(built, folder)), refused(built, folder)


def test_a_rule_of_the_same_folder_is_meant_before_others(tmp_path: Path) -> None:
    files = {"a/base.yml": WHOAMI, "b/base.yml": NET.replace("net_rule", "base_rule")}
    folder = write(tmp_path / "rules", {**files, "b/many.yml": correlation("base_rule")})
    built = made(folder, keep_going=False)
    assert names(built) == ["base", "many"]
    assert b"whoami.exe" in built.files["sentinel/queries/base.kql"]
    assert b"net.exe" in built.files["sentinel/queries/many.kql"]


# ---- filters ---------------------------------------------------------------------------------------------
RECORDS = {
    "plain": process("whoami"),
    "controller": process("whoami", "DC-1"),
    "small letters": process("whoami", "dc-2"),
    "all": process("whoami", more=" /all"),
    "net": process("net"),
    "net on a controller": process("net", "DC-1"),
}


@pytest.mark.parametrize(
    "folder", ["a filter", "a filter in the file", "a filter of all logs of Windows"], indirect=True
)
def test_a_filter_is_applied_on_every_platform(folder: Path, tmp_path: Path) -> None:
    built = made(folder, keep_going=False)
    assert not built.warnings
    assert found(built, tmp_path / "out", RECORDS) == {"base": {"plain", "all"}}


@pytest.mark.parametrize("folder", ["filters"], indirect=True)
def test_several_filters_of_one_rule(folder: Path, tmp_path: Path) -> None:
    built = made(folder, keep_going=False)
    assert found(built, tmp_path / "out", RECORDS) == {"base": {"plain"}, "net": {"net"}}
    # pySigma draws random names for what a filter adds.
    assert made(folder, keep_going=False) == built
    assert not any(re.search(rb"_filt(er)?_[a-z0-9]", content) for content in built.files.values())


@pytest.mark.parametrize("folder", ["a filter of a correlated rule"], indirect=True)
def test_a_filter_of_a_rule_that_is_correlated(folder: Path, tmp_path: Path) -> None:
    built = made(folder, keep_going=False)
    records = {f"{c} {n}": process("whoami", c) for c in ("PC-1", "DC-1") for n in range(3)}
    assert found(built, tmp_path / "out", records)["many"] == {"pc-1"}


def test_a_filter_says_what_sigma_says_whatever_its_rule(tmp_path: Path) -> None:
    """A rule on whole terms does not make its filters look for whole terms."""
    text = WHOAMI.replace("level:", "whole_terms: true\nlevel:")
    files = {"base.yml": text, "filter.yml": sigma_filter("base_rule", "{CommandLine|contains: al}")}
    built = made(write(tmp_path / "rules", files), keep_going=False)
    assert "all" not in found(built, tmp_path / "out", RECORDS)["base"]


def test_the_whole_condition_of_a_rule_is_filtered(tmp_path: Path) -> None:
    text = WHOAMI.replace("condition: s", "t: {Image|endswith: '\\net.exe'}\n  condition: s or t")
    files = {"base.yml": text, "filter.yml": sigma_filter("any", condition="not 1 of sel*")}
    built = made(write(tmp_path / "rules", files), keep_going=False)
    assert found(built, tmp_path / "out", RECORDS) == {"base": {"plain", "all", "net"}}


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        (
            "a filter of nothing",
            'filter.yml:4: warning: filters "base_rul", which is the name or id of no',
        ),
        ("a filter of other logs", 'filter.yml:4: warning: is not applied to "base_rule" (base.yml:4)'),
    ],
    indirect=["folder"],
)
def test_a_filter_that_takes_nothing_out_is_a_warning(folder: Path, line: str) -> None:
    built = made(folder, keep_going=False)
    assert names(built) == ["base"]
    assert [said[: len(line)] for said in warned(built, folder)] == [line]


@pytest.mark.parametrize(
    ("folder", "expected", "lines"),
    [
        ("a faulty filter", ["net"], ["filter.yml:6: \"selektion\"", "base.yml:1: is not built: the filter"]),
        ("a broken filter", ["net"], ["filter.yml:7: YAML", "base.yml:1: is not built: "]),
        ("a filter without rules", [], ['filter.yml:3: the filter has no "rules"', "base.yml:1: is not"]),
        ("a filter by number", ["base"], ["filter.yml:4: \"0\" is not the name or id of a rule"]),
        ("a filter of a correlation", [], ["many.yml:1: is not built: the filter"]),
        ("a filter of an unknown field", [], ['filter.yml:5: field "Compter"']),
        ("a filter with a lookahead", [], ["filter.yml:5: "]),
        ("a filter that is a rule", [], ['base.yml:9: has a "filter" beside its "detection"']),
        ("an odd selection", [], ['filter.yml:5: the selection "_s" cannot be', "base.yml:1: is not"]),
        ("a pattern of hidden selections", [], ['base.yml:1: is not built: "_*" in the condition']),
        ("too many filters", [], ["base.yml:1: is not built: 51 filters"]),
    ],
    indirect=["folder"],
)  # fmt: skip
def test_no_rule_is_built_without_its_filter(folder: Path, expected: list[str], lines: list[str]) -> None:
    built = made(folder)
    said = refused(built, folder)
    assert names(built) == expected
    assert all(any(one.startswith(line) for one in said) for line in lines), said
    with pytest.raises(PackError):
        made(folder, keep_going=False)


def test_a_folder_of_filters_alone_has_no_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "rules", {"filter.yml": sigma_filter("any")})
    assert (
        main(["--root", str(ROOT), "build", "--rules", f"{tmp_path}/rules", "--out", f"{tmp_path}/out"]) == 1
    )
    assert "filter.yml:3: is a Sigma filter that applies to no rule here" in capsys.readouterr().err


# ---- files and names -------------------------------------------------------------------------------------
@pytest.mark.parametrize("folder", ["suffixes"], indirect=True)
def test_endings_in_any_case_and_no_hidden_folders(folder: Path) -> None:
    assert names(made(folder, keep_going=False)) == ["rule_a", "rule_b"]


def test_a_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "rules", {"base.yml": WHOAMI, "closed/net.yml": NET})
    closed = [folder / "closed"]
    scan = os.scandir

    def denied(path: Any = ".") -> Any:
        if Path(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    built = made(folder)
    assert names(built) == ["base"] and refused(built, folder)[0].startswith("closed:1: ")
    closed[:] = [folder]
    command = ["--root", str(ROOT), "build", "--rules", str(folder), "--out", f"{tmp_path}/out"]
    assert main(command) == 2 and main(["--root", str(ROOT), "validate", str(folder)]) == 2
    assert capsys.readouterr().err.splitlines() == [f"{folder}:1: Permission denied; check the path"] * 2


@pytest.mark.parametrize(
    ("folder", "expected"), [("one name", {"base", "corr_base", "filter_base"})], indirect=["folder"]
)
def test_one_name_in_several_folders(folder: Path, expected: set[str]) -> None:
    built = made(folder, keep_going=False)
    assert set(names(built)) == expected
    assert b"cmd.exe" in built.files["sentinel/queries/base.kql"]


@pytest.mark.parametrize("folder", ["one name for all"], indirect=True)
def test_names_that_nothing_but_the_file_tells_apart(folder: Path) -> None:
    listed = names(made(folder, keep_going=False))
    assert len(set(listed)) == 4 and "x_base" in listed


LABELS = [
    Label("base", "base.yml"), Label("base", "x/base.yml", ("x",)), Label("base", "y/x/base.yml", ("y", "x")),
    Label("x_base", "x_base.yml"), Label("base", "two.yml:1", ("two",), 1),
    Label("base", "two.yml:2", ("two",), 2),
]  # fmt: skip


def test_names_do_not_depend_on_the_order_of_reading() -> None:
    straight = dict(zip(LABELS, distinct_names(LABELS), strict=True))
    assert len(set(straight.values())) == len(LABELS)
    assert straight[LABELS[0]] == "base" and straight[LABELS[2]] == "y_x_base"
    for order in itertools.permutations(LABELS):
        assert dict(zip(order, distinct_names(order), strict=True)) == straight


# ---- what nobody foresaw ---------------------------------------------------------------------------------
def stumbles(*_: object, **__: object) -> NoReturn:
    raise IndexError("tuple index out of range")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (rule_reader, "filtered"),
        (rule_reader, "limit_faults"),
        (rule_reader, "old_forms"),
        (outcomes, "meaning"),
    ],
)
def test_a_rule_on_which_we_stumble_stops_no_other(
    module: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is planted happens at one rule only; it is told with that rule's file."""
    files = {"base.yml": WHOAMI, "net.yml": NET, "filter.yml": sigma_filter("base_rule")}
    folder = write(tmp_path, files)
    whole = getattr(module, name)

    def planted(first: Any, *rest: Any) -> Any:
        text = str(getattr(first, "path", getattr(first[0], "path", "") if isinstance(first, list) else ""))
        return stumbles() if text.endswith("base.yml") else whole(first, *rest)

    monkeypatch.setattr(module, name, planted)
    built = made(folder)
    assert names(built) == ["net"]
    [line] = refused(built, folder)
    assert line.startswith("base.yml:1: cannot be ") and "IndexError: tuple index out of range" in line


# ---- what a rule may not mean ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ("{CommandLine|contains: ['', ' /all']}", '"" matches whatever the field holds'),
        ("{CommandLine|re: '[a-z]+'}", "the regular expression has no 3 literal characters in a row"),
        ("{CommandLine|re: '.*whoami'}", "the regular expression starts with .*"),
        ("{CommandLine: 'a*'}", "is a wildcard without 3 literal characters"),
    ],
)
def test_a_build_warns_of_what_a_rule_may_not_mean(selection: str, said: str, tmp_path: Path) -> None:
    text = WHOAMI.replace("{Image|endswith: '\\whoami.exe'}", selection)
    built = made(write(tmp_path, {"base.yml": text}), keep_going=False)
    [line] = warned(built, tmp_path)
    assert line.startswith("base.yml:6: warning: ") and said in line


def test_a_build_warns_of_a_value_that_no_record_holds(tmp_path: Path) -> None:
    text = (
        "title: A\nlogsource: {product: m365, service: exchange}\n"
        "detection: {s: {Operation: Search-Mailbx}, condition: s}\n"
    )
    built = made(write(tmp_path, {"a.yml": text}), keep_going=False)
    assert ['did you mean "Search-Mailbox"?' in line for line in warned(built, tmp_path)] == [True]


def test_a_platform_is_no_part_of_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter's value that one platform cannot say refuses the rule there, at the line of the filter."""
    monkeypatch.setattr(platform("splunk"), "part", stumbles)
    folder = write(tmp_path, FOLDERS["a filter"])
    [line] = refused(made(folder), folder)
    assert line.startswith("base.yml:1: cannot be built (IndexError")

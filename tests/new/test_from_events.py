"""The trap: a draft that does not find the records it was drafted from, or hides how much else it hits.

Drafts are made of records that were seen, built, and executed: each platform finds every one of the records,
the baseline is counted event for event, and once the prose is written the pack takes the rule as any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.model.pack import load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.new.observed import observed
from detection_pack.new.templates import log_sources
from support.checkout import copy_of_the_pack, core_alone, tree

SEEN = {
    "EventID": 1,
    "UtcTime": "2026-03-10 09:15:00.000",
    "Computer": "ws01.contoso.example",
    "User": "CONTOSO\\alice",
    "Image": "C:\\Windows\\System32\\rundll32.exe",
    "CommandLine": "rundll32.exe C:\\Users\\Public\\payload.dll,Start 17 *",
    "ParentImage": "C:\\Windows\\explorer.exe",
}


def log(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return core_alone(copy_of_the_pack(tmp_path_factory.mktemp("pack")))


def new(root: Path, *arguments: object) -> int:
    try:
        return main(["--root", str(root), "new", *map(str, arguments)])
    except SystemExit as stopped:
        assert isinstance(stopped.code, int)
        return stopped.code


def test_a_draft_finds_what_it_was_made_of_and_counts_the_baseline(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = [{**SEEN, "UtcTime": f"2026-03-10 09:15:0{n}.000", "User": f"CONTOSO\\u{n}"} for n in range(3)]
    other = {**SEEN, "CommandLine": "rundll32.exe shell32.dll,Control_RunDLL", "User": "CONTOSO\\carol"}
    usual = {**SEEN, "UtcTime": "2026-03-09 08:00:00.000", "User": "CONTOSO\\bob"}
    baseline = log(
        tmp_path / "baseline.json", [other, usual, {**usual, "UtcTime": "2026-03-09 08:00:01.000"}]
    )
    given_log = log(tmp_path / "seen.json", seen)
    name = "payload_by_rundll32"
    assert new(root, name, "--from-events", given_log, "--baseline", baseline) == 0
    said = capsys.readouterr().out
    for what, number in (("records seen: 3, hits", 3), ("hits in the baseline", 2)):
        line = next(line for line in said.splitlines() if line.startswith(f"{what}: "))
        assert line.endswith(", ".join(f"{platform} {number}" for platform in PLATFORMS))
    assert "CONTOSO\\bob" in said or "bob" in said
    rule = yaml.safe_load((root / "sigma" / "extended" / f"{name}.yml").read_text(encoding="utf-8"))
    assert rule["detection"]["selection"] == {
        "CommandLine|contains": ["rundll32.exe C:\\Users\\Public\\payload.dll,Start 17"],
        "Image|endswith": ["\\rundll32.exe"],
        "ParentImage|endswith": ["\\explorer.exe"],
    }
    assert "FILL-IN" in rule["title"]
    events = yaml.safe_load((root / "tests" / "events" / f"{name}.yml").read_text(encoding="utf-8"))
    assert [case["title"] for case in events["match"][:3]] == [f"as it was seen, {n}" for n in (1, 2, 3)]
    fill_in(root, name)
    assert main(["--root", str(root), "validate", str(root / "sigma" / "extended" / f"{name}.yml")]) == 0


def fill_in(root: Path, name: str) -> None:
    """The prose alone is missing: replace each placeholder by what it might be."""
    path = root / "sigma" / "extended" / f"{name}.yml"
    rule = yaml.safe_load(path.read_text(encoding="utf-8"))
    rule |= {
        "title": "Payload Started by Rundll32",
        "description": "A library was started from a public folder, where anybody may write. "
        "Look at who wrote it there first, and at what it started.",
        "references": [*rule["references"][:-1], "https://learn.microsoft.com/windows/rundll32"],
        "falsepositives": ["Administrators at work. Ask for the change ticket."],
        "alert": {**rule["alert"], "type": "Payload started", "detail": "It was started: {CommandLine}"},
    }
    path.write_text(yaml.safe_dump(rule, sort_keys=False), encoding="utf-8")


PACK = load_pack(ROOT)
SOURCES = {"-".join(source.logsource.values()): source for source in log_sources(PACK)}
#: The others are a campaign: what differs between them is data.
ORDINARY = ("azure-graphactivitylogs",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ORDINARY else pytest.mark.campaign) for n in sorted(SOURCES)],
)
def test_each_source_that_new_knows_can_be_drafted_from(
    name: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record as the source's own data has it, with everyday texts in the fields that rules are about."""
    source = SOURCES[name]
    stated = {**source.rule["record"], **{field: texts[0] for field, texts in source.others.items()}}
    record: dict[str, Any] = {}
    for key, value in stated.items():  # as exports have it: what has a dot in its name lies in an object
        head, dot, rest = key.partition(".")
        if dot:
            record.setdefault(head, {})[rest] = value
        else:
            record[key] = value
    drafted = "from_" + name.replace("-", "_")
    assert new(root, drafted, "--from-events", log(tmp_path / "seen.json", [record])) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("records seen: 1, hits: "))
    figures = line.partition("hits: ")[2].split(", ")
    assert figures and all(figure.endswith(" 1") for figure in figures), line


texts = st.text(st.sampled_from("abcXYZ 019-/\\.*?\n\x1b'\"é"), min_size=1, max_size=30)


@settings(max_examples=8, deadline=None)
@given(lines=st.lists(texts, min_size=1, max_size=9))
def test_whatever_the_texts_a_draft_states_what_every_record_holds(
    lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the draft looks for stands in each record, in printable text without wildcards."""
    path = log(
        tmp_path_factory.mktemp("log") / "seen.json",
        [
            {**SEEN, "UtcTime": f"2026-03-10 09:15:0{n}.000", "CommandLine": one}
            for n, one in enumerate(lines)
        ],
    )
    found = observed(PACK, [path])
    item = found.template.item
    for value in found.values:
        assert value.written["value"].isprintable() and not set("*?") & set(value.written["value"])
    held = (
        [one.casefold() for one in lines]
        if item.field == "CommandLine"
        else [str(SEEN[item.field]).casefold()]
    )
    for one in held:
        assert any(value.written["value"].casefold() in one for value in found.values)


def test_of_many_texts_the_longest_piece_that_all_share_is_stated(tmp_path: Path) -> None:
    lines = [f"{'x' * n}{n} Run.exe payload.dll,Start {n}{n}" for n in range(9)]
    lines[4] = lines[4].upper()
    found = observed(PACK, [log(tmp_path / "seen.json", [{**SEEN, "CommandLine": one} for one in lines])])
    assert found.template.item.field == "CommandLine" and found.template.item.operator == "contains"
    (value,) = found.values
    assert value.written["value"].casefold() == "run.exe payload.dll,start"


@pytest.mark.parametrize(
    ("records", "more", "said"),
    [
        ([SEEN, {"CreationTime": "2026-03-10T09:15:00", "RecordType": 1, "Operation": "x"}], [], "several"),
        ([{**SEEN, "Image": "*", "CommandLine": "?", "ParentImage": "*"}], [], "share no text"),
        ([SEEN], ["--baseline", "/nonexistent.json"], "nonexistent"),
        ([SEEN], ["--value", "x"], "--value"),
        ([{"a": 1}], [], "seen.json"),
    ],
)
def test_what_cannot_be_drafted_is_one_line_and_writes_nothing(
    records: list[dict[str, Any]],
    more: list[str],
    said: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tree(root)
    code = new(root, "not_drafted", "--from-events", log(tmp_path / "seen.json", records), *more)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and said in lines[0] and all(line.isprintable() for line in lines)
    assert tree(root) == before

"""The trap: a rule, an events file or a log from a stranger that ends in a traceback, or in a weaker query.

Each is refused with one line that names the file, or built so that execution shows what Sigma means by it.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.build.dist import make
from detection_pack.cli import main
from detection_pack.model.case import load_cases
from detection_pack.model.event import Clock, Event, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.record_time import parse_time
from detection_pack.model.rule_reader import load_rule
from support.engines import ENGINES
from support.sources import M365, PROCESS

ONE_LINE = re.compile(r"^\S.*:\d+: .+; .+$")
HEAD = "title: Probe\nlogsource: {product: m365}\n"
CORRELATED = (
    HEAD + "name: base\ndetection: {s: {UserId: a}, condition: s}\n---\ntitle: C\ncorrelation:\n"
    "  type: event_count\n"
    "  rules: [base]\n  group-by: [UserId]\n  timespan: %s\n  condition: {gte: %s}\n"
)

REFUSED = {
    "a look-back that ends its statement": HEAD
    + "lookback: '24h; drop'\ndetection: {s: {UserId: a}, condition: s}\n",
    "a look-back that is a list": HEAD + "lookback: [1]\ndetection: {s: {UserId: a}, condition: s}\n",
    "a count on a plain rule": HEAD
    + "alert: {type: a, detail: 'x {count}'}\ndetection: {s: {UserId: a}, condition: s}\n",
    "an empty selection": HEAD + "detection: {s: , condition: s}\n",
    "a condition that is a number": HEAD + "detection: {s: {UserId: a}, condition: 5}\n",
    "a null key": HEAD + "detection: {s: {null: a}, condition: s}\n",
    "a set": HEAD + "detection: {s: !!set {a}, condition: s}\n",
    "a binary": HEAD + "detection: {s: {UserId: !!binary aGk=}, condition: s}\n",
    "a filter": HEAD + "filter: {rules: [a], selection: {UserId: a}, condition: selection}\n",
    "a detection that is a list": HEAD + "detection: [a]\n",
    "a fraction of a count": CORRELATED % ("1h", "5.5"),
    "a negative count": CORRELATED % ("1h", "-5"),
    "a window beyond the look-back": CORRELATED % ("99999999999d", "5"),
    "a user by the domain's name": (
        "title: Probe\nlogsource: {product: windows, category: process_creation}\n"
        "detection: {s: {User|startswith: NT AUTHORI}, condition: s}\n"
    ),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_rule_is_refused_with_one_line(text: str, tmp_path: Path, pack: Pack) -> None:
    path = tmp_path / "probe.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PackError) as refusal:
        rule = load_rule(path, "other", named_by_stem=True)
        make(Pack(pack.root, pack.version, (rule,), pack.pipelines))
    assert all(ONE_LINE.match(str(finding)) for finding in refusal.value.findings)


DAY = "record: {CreationTime: '2026-01-01'}"
EVENTS = {
    "defaults that are a list": "rule: probe\ndefaults: [a]\nmatch: [{title: t, record: {}}]\n",
    "absent that is a number": "rule: probe\nmatch: [{title: t, absent: 5, record: {}}]\n",
    "hits that are a number": f"rule: probe\nmatch: [{{title: t, hits: 5, {DAY}}}]\n",
    "an exception that is a text": f"rule: probe\nmatch: [{{title: t, except: foo, {DAY}}}]\n",
    "a case that is a text": "rule: probe\nmatch: [a]\n",
}


@pytest.mark.parametrize("text", EVENTS.values(), ids=EVENTS.keys())
def test_events_file_is_refused_with_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "probe.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PackError) as refusal:
        load_cases(path, M365)
    assert all(ONE_LINE.match(str(finding)) for finding in refusal.value.findings)


def test_nothing_to_build_leaves_dist_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules").mkdir()
    out = tmp_path / "out"
    command = ["--root", str(ROOT), "build", "--rules", str(tmp_path / "rules"), "--out", str(out)]
    assert main(command) == 1
    assert not out.exists() and "holds no rule" in capsys.readouterr().err


LOGS = {
    "half of a surrogate pair": {"UserId": "\ud800"},
    "an empty key": {"": "x"},
    "values of other types": {"ClientInfoString": ["a"], "UserId": {"a": 1}, "Parameters": 5},
}


@pytest.mark.parametrize("tier", [["--tier", "core"], pytest.param([], marks=pytest.mark.campaign)])
@pytest.mark.parametrize("fields", LOGS.values(), ids=LOGS.keys())
def test_odd_records_are_replayed(
    fields: dict[str, object], tier: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {
        "Id": "1",
        "RecordType": 1,
        "Operation": "Search-Mailbox",
        "CreationTime": "2026-01-01T00:00:00",
    }
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({**record, **fields}), encoding="utf-8")
    assert main(["--root", str(ROOT), "replay", *tier, str(path), "--format", "json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert [(hit["platforms"], hit["events"]) for hit in hits] == [(list(PLATFORMS), ["1"])]


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59", "0001-01-01T00:00:00", "", "2026-13-01", "x"])
def test_times_out_of_reach_are_no_times(text: str) -> None:
    assert parse_time(text) is None


def test_a_log_of_nothing_known_is_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"foo": 1}\n', encoding="utf-8")
    assert main(["--root", str(ROOT), "replay", "--tier", "core", str(path)]) == 2
    assert "none of a kind" in capsys.readouterr().err


@pytest.mark.parametrize("platform", sorted(ENGINES))
def test_a_rule_may_mean_pieces_of_words(platform: str, tmp_path: Path, pack: Pack) -> None:
    found = [
        replayed(
            platform, tmp_path / folder, pack, "CommandLine|contains: Download", ["xDownloadFile"], *said
        )
        for folder, said in (
            ("whole", ["whole_terms: true"]),
            ("pieces", ["whole_terms: false"]),
            ("silent", []),
        )
    ]
    assert found == [set(), {"e0"}, {"e0"}]


@pytest.mark.parametrize("platform", sorted(ENGINES))
def test_pieces_of_an_encoding_are_no_words(platform: str, tmp_path: Path, pack: Pack) -> None:
    """base64offset gives three pieces that stand in the middle of a blob, whatever touches them."""
    blobs = [base64.b64encode(f"{'x' * pad};IEX (New-Object)".encode()).decode() for pad in range(3)]
    commands = [f"powershell -e {blob}" for blob in [*blobs, "aGVsbG8="]]
    found = replayed(platform, tmp_path, pack, "CommandLine|base64offset|contains: IEX", commands)
    assert found == {"e0", "e1", "e2"}


def replayed(
    platform: str, folder: Path, pack: Pack, item: str, commands: list[str], more: str = "status: test"
) -> set[str]:
    """The ids (e0, e1 …) of the command lines that a rule with one detection item finds."""
    folder.mkdir(exist_ok=True)
    path = folder / "probe.yml"
    path.write_text(
        f"title: Probe\n{more}\nlogsource: {{product: windows, category: process_creation}}\n"
        f"detection:\n  s: {{{item}}}\n  condition: s\n",
        encoding="utf-8",
    )
    rule = load_rule(path, "other", named_by_stem=True)
    built = make(Pack(pack.root, pack.version, (rule,), pack.pipelines))
    for name, content in built.files.items():
        (folder / "dist" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "dist" / name).write_bytes(content)
    events = [
        Event(f"e{i}", PROCESS, {"UtcTime": "2026-01-01 00:00:00", "CommandLine": command})
        for i, command in enumerate(commands)
    ]
    moment = parse_time("2026-01-01 00:00:01")
    assert moment is not None
    hits = ENGINES[platform](folder / "dist", [RuleEntry("probe")], events, Clock(moment))
    assert hits and all(hit.events == hits[0].events for hit in hits)
    return set(hits[0].events)

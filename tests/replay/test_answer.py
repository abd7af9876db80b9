"""The trap: an answer that counts wrongly, hides that platforms disagree, or lets a log write a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.model.event import Hit
from detection_pack.model.findings import PackError
from detection_pack.replay import answer, answer_files, expectations
from detection_pack.replay.answer_text import answer_text
from detection_pack.replay.trial import changes

DAY = datetime(2026, 3, 10, 9, 15, tzinfo=UTC)
HOSTILE = "=cmd|'/c calc'!A1\x1b[31m\u202e<b>"


def admin(number: int, **more: Any) -> dict[str, Any]:
    return {
        "Id": f"a{number}",
        "CreationTime": (DAY + timedelta(hours=number * 20)).strftime("%Y-%m-%dT%H:%M:%S"),
        "RecordType": 1,
        "Operation": "Search-Mailbox",
        "Workload": "Exchange",
        "UserId": f"Admin{number % 2}@contoso.example",
        "ClientIP": "203.0.113.24:16902",
        "Parameters": [],
        **more,
    }


def bulk(mailboxes: int) -> list[dict[str, Any]]:
    return [
        {
            "Id": f"b{n}",
            "CreationTime": f"2026-03-11T10:{n:02d}:00",
            "RecordType": 2,
            "Operation": "Create",
            "Workload": "Exchange",
            "UserId": "eve@contoso.example",
            "MailboxOwnerUPN": f"user{n}@contoso.example",
            "ClientIP": "198.51.100.7",
            "ClientIPAddress": "198.51.100.7",
        }
        for n in range(mailboxes)
    ]


def asked(tmp_path: Path, records: list[dict[str, Any]], *arguments: str) -> tuple[int, Path]:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    chosen = {"--rule", "--tier"} & set(arguments)
    tier = [] if chosen else ["--tier", "core"]
    return main(["--root", str(ROOT), "replay", str(log), *tier, *arguments]), log


def as_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_every_figure_of_a_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [admin(n) for n in range(4)] + [admin(9, Operation="Set-Mailbox")] + bulk(6)
    assert asked(tmp_path, records, "--format", "json")[0] == 0
    found = as_json(capsys)
    rules = {rule["rule"]: rule for rule in found["rules"]}
    one = rules["exchange_admin_cmdlet"]
    assert (one["hits"], one["users"], one["first"]) == (4, 2, "2026-03-10T09:15:00Z")
    # 10 March 09:15 and every 20 hours: 10, 11, 12, 12 March; the log ends on 17 March.
    assert one["per_day"] == {"median": 0.0, "worst": 2.0}
    assert one["top"]["users"] == [["Admin0@contoso.example", 2], ["Admin1@contoso.example", 2]]
    assert one["top"]["addresses"] == [["203.0.113.24", 4]]
    assert set(one["platforms"]) == {"defender", "elastic", "sentinel", "splunk"} and not one["disagrees"]
    assert all(told == {"hits": 4} for told in one["platforms"].values())
    group = rules["bulk_cross_mailbox_access"]
    assert group["hits"] == 1
    [hit] = [hit for hit in found["hits"] if hit["rule"] == "bulk_cross_mailbox_access"]
    assert (hit["value"], hit["window"], hit["events"]) == (6, "2026-03-11T10:00:00Z", None)
    assert hit["group"] == {"UserId": "eve@contoso.example", "ClientIP": "198.51.100.7"}
    assert {h["events"][0] for h in found["hits"] if h["events"]} == {"a0", "a1", "a2", "a3"}
    assert (found["read"]["records"], found["read"]["silent"]) == ({"m365": 11}, ["process_creation"])
    assert [h["time"] for h in found["hits"]] == sorted((h["time"] for h in found["hits"]), reverse=True)


def test_the_quiet_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [admin(1, RecordType=9999, Operation="Nothing Known", Id="x")]
    records += [{**record, "Operation": "Guessed"} for record in bulk(2)]
    for record in records:
        record.pop("MailboxOwnerUPN", None)
    assert asked(tmp_path, records, "--format", "json")[0] == 0
    read = as_json(capsys)["read"]
    assert read["absent_fields"]["bulk_cross_mailbox_access"] == ["MailboxOwnerUPN"]
    assert read["unknown"]["RecordType"] == [["9999", 1]]
    assert read["unknown"]["Operation"] == [["Guessed", 2]]


def test_a_trial_shows_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "bulk_cross_mailbox_access.threshold=7", "--set"]
    sets += ["exchange_admin_cmdlet.exclude=UserId:ADMIN0@contoso.example"]
    assert asked(tmp_path, [*bulk(6), *(admin(n) for n in range(4))], *sets, "--format", "json")[0] == 0
    rules = {rule["rule"]: rule for rule in as_json(capsys)["rules"]}
    one, other = rules["bulk_cross_mailbox_access"], rules["exchange_admin_cmdlet"]
    assert (one["hits"], one["trial"]) == (1, {"set": "threshold=7", "hits": 0})
    assert (other["hits"], other["trial"]["hits"]) == (4, 2)
    assert rules["suspicious_ews_client"]["trial"] is None


@pytest.mark.parametrize("value", ["4", "6"])
def test_a_window_is_tried(tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", f"bulk_cross_mailbox_access.window={value}m", "--platform", "sentinel"]
    assert asked(tmp_path, bulk(6), *sets, "--format", "json")[0] == 0
    [one] = [rule for rule in as_json(capsys)["rules"] if rule["rule"] == "bulk_cross_mailbox_access"]
    assert one["trial"]["hits"] == {"4": 0, "6": 1}[value]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bulk_cross_mailbox_access.threshold=five", "is not a threshold"),
        ("bulk_cross_mailbox_access.threshold=99999999999", "is not a threshold"),
        ("bulk_cross_mailbox_access.window=1 or 1=1", "is not a window"),
        ("exchange_admin_cmdlet.threshold=3", "counts nothing"),
        ("exchange_admin_cmdlet.lookback=3d", "has no parameter"),
        ("nobody.threshold=3", "no rule"),
        ("threshold=3", "cannot read"),
        ("exchange_admin_cmdlet.exclude=UserId", "excludes nothing"),
    ],
)
def test_a_change_that_cannot_be_made_is_one_line(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(tmp_path, bulk(1), "--set", text, "--platform", "sentinel")[0] == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and said in captured.err


def test_a_value_of_an_exclusion_breaks_out_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\"b\\c*d' | union isfuzzy=true * //"
    records = [admin(0, UserId=name), admin(1, UserId=name.replace("*", "x"))]
    sets = ["--set", f"exchange_admin_cmdlet.exclude=UserId:{name}", "--rule", "exchange_admin_cmdlet"]
    assert asked(tmp_path, records, *sets, "--format", "json")[0] == 0
    [one] = as_json(capsys)["rules"]
    assert (one["hits"], one["trial"]["hits"]) == (2, 1)


def test_hostile_values_stay_in_their_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [admin(0, UserId=HOSTILE, Id="id\r\n\x07")]
    out = tmp_path / "out"
    assert asked(tmp_path, records, "--rule", "exchange_admin_cmdlet", "--out", str(out))[0] == 0
    printed = capsys.readouterr().out
    assert not any(c in printed for c in "\x1b\u202e\x07\r")
    rows = list(csv.DictReader(io.StringIO((out / "hits.csv").read_bytes().decode())))
    assert len(rows) == 1 and rows[0]["UserId"].startswith("'=cmd")
    text = "".join(path.read_text("utf-8") for path in out.iterdir())
    assert not any(c in text for c in "\x1b\u202e\x07")
    assert json.loads((out / "hits.json").read_text("utf-8"))[0]["columns"]["UserId"] == HOSTILE
    assert set(json.loads((out / "summary.json").read_text("utf-8"))) == {"read", "rules"}


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("{at_least: 4}", 0),
        ("{at_least: 5}", 1),
        ("{at_most: 4}", 0),
        ("{at_most: 3}", 1),
        ("{exactly: 4}", 0),
        ("{exactly: 3}", 1),
        ("{at_least: 1, at_most: 9}", 0),
        ("{at_least: -1}", 2),
        ("{at_least: true}", 2),
        ("{exactly: 4, at_least: 1}", 2),
        ("{often: 4}", 2),
        ("[]", 2),
    ],
)
def test_expectations(tmp_path: Path, stated: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    path, junit = tmp_path / "expect.yml", tmp_path / "junit.xml"
    path.write_text(f"# a gate\nexchange_admin_cmdlet: {stated}\n", encoding="utf-8")
    given = ["--expect", str(path), "--junit", str(junit), "--platform", "sentinel"]
    assert asked(tmp_path, [admin(n) for n in range(4)], *given)[0] == code
    faults = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{path}:2: ")]
    assert len(faults) == (code != 0) and junit.exists() == (code != 2)
    if code != 2:
        [suite] = ElementTree.parse(junit).getroot()
        assert (suite.get("tests"), suite.get("failures")) == ("1", str(code))
        assert len(suite.findall("testcase/failure")) == code


def test_an_expectation_of_a_rule_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "expect.yml"
    path.write_text("nobody: {at_least: 1}\n", encoding="utf-8")
    assert asked(tmp_path, bulk(1), "--expect", str(path))[0] == 2
    assert 'has no rule "nobody"' in capsys.readouterr().err


def test_junit_holds_any_name() -> None:
    one = expectations.Expectation("a\x00<&\"'\ud800", Path("x"), 1, {"at_least": 1})
    root = ElementTree.fromstring(expectations.junit([one], {one.rule: [0]}).encode("utf-8", "replace"))
    assert root.findall(".//failure")


def test_an_expectation_holds_on_every_platform_that_ran() -> None:
    one = expectations.Expectation("r", Path("x"), 1, {"at_most": 1})
    assert one.failure([0, 1]) is None
    assert one.failure([1, 2]) == "expected at most 1, found 2"
    assert one.failure([]) == "ran on no platform"


def test_rules_by_tier_and_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = ["--rule", "exchange_admin_cmdlet", "--rule", "suspicious_ews_client", "--tier", "core"]
    assert asked(tmp_path, bulk(1), *rules, "--format", "json", "--platform", "sentinel")[0] == 0
    assert [rule["rule"] for rule in as_json(capsys)["rules"]] == [
        "exchange_admin_cmdlet",
        "suspicious_ews_client",
    ]
    only = ["--rule", "exchange_admin_cmdlet", "--tier", "hunting"]
    assert asked(tmp_path, bulk(1), *only)[0] == 2
    assert "error: --tier leaves no rule" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--out", "x"], ["--set", "a.b=c"], ["--expect", "x"], ["--format", "csv"]]
)
def test_what_goes_with_a_log_alone(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "replay", *option])
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def hit(platform: str, *events: str) -> Hit:
    rows = tuple({"UserId": event, "TimeGenerated": DAY} for event in events)
    return Hit(platform, "r", f"{platform}/queries/r.kql", frozenset(events), rows=rows, row_events=events)


def about(platforms: Mapping[str, int | str], *hits: Hit) -> answer.RuleAnswer:
    found = answer.found_hits("r", hits)
    return answer.RuleAnswer(answer.AboutRule("r", "R", "high", "core", "s"), found, platforms, (DAY, DAY))


def test_platforms_that_disagree_are_said_so() -> None:
    one = about({"sentinel": 2, "defender": 1}, hit("sentinel", "a", "b"), hit("defender", "a"))
    assert one.disagrees and len(one.hits) == 2
    assert "platforms disagree on r: sentinel 2, defender 1" in answer_text(told(one))
    same = about(
        {"sentinel": 1, "defender": 1, "splunk": "cannot"}, hit("sentinel", "a"), hit("defender", "a")
    )
    assert not same.disagrees and len(same.hits) == 1
    assert "splunk cannot run r: cannot" in answer_text(told(same))


def told(one: answer.RuleAnswer) -> dict[str, Any]:
    read: dict[str, Any] = {"silent": [], "absent_fields": {}, "unknown": {}}
    return answer.Answer(read, (one,)).as_json()


def test_days_without_hits_count() -> None:
    span = (DAY, DAY + timedelta(days=4))
    assert answer.per_day([DAY, DAY, DAY + timedelta(days=1)], span) == {"median": 0.0, "worst": 2.0}
    assert answer.per_day([], None) is None and answer.per_day([], span) == {"median": 0.0, "worst": 0.0}


def test_top_values_fold_letter_case_and_leave_out_the_empty() -> None:
    assert answer.top(["A", "a", "", "b"]) == [["A", 2], ["b", 1]]
    assert len(answer.top(map(str, range(9)))) == answer.TOP


def test_a_hundred_thousand_hits_are_quick() -> None:
    names = [f"e{n}" for n in range(100_000)]
    start = datetime.now(UTC)
    shown = told(about({"sentinel": len(names)}, hit("sentinel", *names)))
    answer_files.csv_text(shown), answer_files.json_text(shown), answer_text(shown)
    assert (datetime.now(UTC) - start).total_seconds() < 20


@pytest.mark.parametrize("text", ["", "a", "a.b", "=", ".=x", "a.=x"])
def test_what_is_no_change(text: str) -> None:
    with pytest.raises(PackError, match="cannot read"):
        changes([text])

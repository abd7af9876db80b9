"""The trap: an explanation that guesses.

An address that two keys of a record hold is not in a field because it looks the same; a platform that cannot
be asked has not answered "false"; and what stands in a log can steer the terminal that shows it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from detection_pack import cli
from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.platforms.platform import platform
from detection_pack.replay.explain_ingest import IngestedRecord, ingested_record
from support.checkout import copy_of_the_sources, core_alone

ROOT = Path(__file__).parents[2]
RECORD: dict[str, Any] = {
    "CreationTime": "2026-03-10T09:15:00",
    "Id": "one",
    "RecordType": 1,
    "Operation": "Search-Mailbox",
    "Workload": "Exchange",
    "UserId": "admin@contoso.example",
    "UserType": 2,
    "ClientIP": "198.51.100.7:16902",
    "UserAgent": "odd/1.0",
    "ExternalAccess": False,
    "Parameters": [{"Name": "Identity", "Value": "owner@contoso.example"}],
}


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack(ROOT)


def ingested(pack: Pack, here: str, record: dict[str, Any]) -> IngestedRecord:
    sources = tuple(pack.sources.values())
    return ingested_record(platform(here), Event("one", pack.sources["m365"], record), sources)


def became(told: IngestedRecord) -> dict[str, dict[str, tuple[str, Any]]]:
    return {key.key: {f.name: (f.became, f.value) for f in key.fields} for key in told.keys}


#: Platform, key of the record, and the fields with what became of the value.
INGESTED = [
    ("sentinel", "RecordType", {"RecordType": ("rewritten", "ExchangeAdmin")}),
    ("sentinel", "UserType", {"UserType": ("rewritten", "Admin")}),
    ("sentinel", "Workload", {"OfficeWorkload": ("renamed", "Exchange")}),
    ("sentinel", "Operation", {"Operation": ("kept", "Search-Mailbox")}),
    ("sentinel", "ClientIP", {"ClientIP": ("kept", "198.51.100.7:16902")}),
    ("sentinel", "UserAgent", {}),
    ("defender", "RecordType", {"RawEventData.RecordType": ("renamed", 1)}),
    ("defender", "Operation", {
        "ActionType": ("renamed", "Search-Mailbox"), "RawEventData.Operation": ("renamed", "Search-Mailbox"),
    }),
    ("splunk", "RecordType", {"RecordType": ("retyped", "1")}),
    ("splunk", "Parameters", {
        "Parameters{}.Name": ("rewritten", "Identity"),
        "Parameters{}.Value": ("rewritten", "owner@contoso.example"),
        "Identity": ("rewritten", "owner@contoso.example"),
    }),
    ("elastic", "RecordType", {
        "event.code": ("rewritten", "ExchangeAdmin"), "o365.audit.RecordType": ("retyped", "1"),
    }),
    ("elastic", "ClientIP", {
        "source.ip": ("rewritten", "198.51.100.7"), "client.ip": ("rewritten", "198.51.100.7"),
    }),
    ("elastic", "UserAgent", {"user_agent.original": ("renamed", "odd/1.0")}),
    ("elastic", "UserId", {
        "user.id": ("renamed", "admin@contoso.example"),
        "user.email": ("renamed", "admin@contoso.example"),
        "user.name": ("rewritten", "admin"),
        "user.domain": ("rewritten", "contoso.example"),
        "o365.audit.UserId": ("renamed", "admin@contoso.example"),
    }),
]  # fmt: skip


@pytest.mark.parametrize(("here", "key", "expected"), INGESTED)
def test_what_ingest_makes_of_a_key(pack: Pack, here: str, key: str, expected: dict[str, Any]) -> None:
    assert became(ingested(pack, here, RECORD))[key] == expected


def test_of_two_keys_with_one_value_the_one_is_named_that_is_read(pack: Pack) -> None:
    """The integration takes the second address where there is one, and moves only that away."""
    told = became(ingested(pack, "elastic", {**RECORD, "ClientIPAddress": "198.51.100.7:16902"}))
    assert set(told["ClientIPAddress"]) == {"source.ip", "client.ip"}
    assert set(told["ClientIP"]) == {"o365.audit.ClientIP"}


def test_a_key_that_only_decides_is_not_told_as_the_value(pack: Pack) -> None:
    """On record type 2 the owner stands where on others the user does."""
    record = {**RECORD, "RecordType": 2, "MailboxOwnerUPN": "owner@contoso.example"}
    told = became(ingested(pack, "elastic", record))
    assert set(told["RecordType"]) == {"event.code", "o365.audit.RecordType"}
    assert told["MailboxOwnerUPN"] == {"user.email": ("renamed", "owner@contoso.example")}


def test_what_comes_from_no_key_is_added(pack: Pack) -> None:
    assert {f.name: f.value for f in ingested(pack, "sentinel", RECORD).added} == {"Type": "OfficeActivity"}


def test_a_record_that_ingest_leaves_out(pack: Pack) -> None:
    record = {**RECORD, "RecordType": 18, "Workload": "SecurityComplianceCenter"}
    told = ingested(pack, "sentinel", record)
    assert told.stored == () and told.reason == "its ingest leaves this record out"
    assert all(key.fields == () for key in told.keys)
    assert ingested(pack, "defender", record).stored


def test_a_record_of_very_many_keys_is_refused(pack: Pack) -> None:
    with pytest.raises(PackError, match="too many to try"):
        ingested(pack, "splunk", RECORD | {f"key{n}": "x" for n in range(5000)})


# -- the command ---------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(["--root", str(ROOT), "explain", *arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--format", "json")
    assert (code, err) == (0, "")
    told: dict[str, Any] = json.loads(out)
    return told


def test_five_owners_on_all_platforms(capsys: pytest.CaptureFixture[str]) -> None:
    rule = "bulk_cross_mailbox_access"
    told = explained(capsys, rule, f"{rule}-match-1-3")
    assert [one["platform"] for one in told["platforms"]] == ["defender", "elastic", "sentinel", "splunk"]
    for one in told["platforms"]:
        assert one["correlation"]["counts"] is True
        assert one["correlation"]["windows"] == [
            {
                "group": {"UserId": "five@contoso.example", "ClientIP": "198.51.100.7"},
                "window": "2026-03-10T09:00:00Z",
                "value": 5,
                "fires": True,
                "events": [f"{rule}-match-1-{n}" for n in range(1, 6)],
            }
        ]
        [counted] = one["rules"]
        answers = {s["name"]: s["holds"] for s in counted["selections"]}
        assert (answers, counted["holds"]) == ({"selection": True, "own_mailbox": False}, True)
    values = {
        one["platform"]: [
            compared["value"]
            for selection in one["rules"][0]["selections"]
            for item in selection["items"]
            if item["item"] == "RecordType"
            for compared in item["compared"]
        ]
        for one in told["platforms"]
    }
    assert values == {
        "defender": ["2"], "elastic": ["ExchangeItem"], "sentinel": ["ExchangeItem"], "splunk": ["2"],
    }  # fmt: skip


def bulk(count: int, **other: Any) -> list[dict[str, Any]]:
    return [
        {
            **RECORD, "Id": f"r{n}", "RecordType": 2, "Operation": "Create", "UserId": "u@contoso.example",
            "ClientIP": "198.51.100.7", "MailboxOwnerUPN": f"o{n}@contoso.example",
            "MailboxGuid": f"00000000-0000-4000-8000-00000000000{n}",
            "CreationTime": f"2026-03-10T09:0{n}:00", **other,
        }
        for n in range(count)
    ]  # fmt: skip


def log(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_too_few_and_those_that_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four owners, the account's own mailbox, one of another account and one of another hour."""
    own = {"MailboxOwnerUPN": "U@contoso.example", "Id": "own"}
    other = {"UserId": "v@contoso.example", "Id": "other"}
    late = {"CreationTime": "2026-03-10T10:01:00", "Id": "late"}
    records = bulk(4) + [bulk(1, **changed)[0] for changed in (own, other, late)]
    path = log(tmp_path / "log.jsonl", records)
    told = explained(capsys, "bulk_cross_mailbox_access", "r2", "--log", path)
    for one in told["platforms"]:
        [window] = one["correlation"]["windows"]
        assert (window["value"], window["fires"]) == (4, False), one["platform"]
        assert window["events"] == ["r0", "r1", "r2", "r3"]
    for one in explained(capsys, "bulk_cross_mailbox_access", "own", "--log", path)["platforms"]:
        assert (one["correlation"]["counts"], one["correlation"]["windows"]) == (False, [])
    assert told["origin"] == f"{path}:3"


def test_a_record_by_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log(tmp_path / "log.jsonl", [RECORD, {**RECORD, "Id": "two", "Operation": "Set-Mailbox"}])
    for asked in (f"{path}:2", "log.jsonl:2", "two"):
        told = explained(capsys, "exchange_admin_cmdlet", asked, "--log", path)
        assert told["event"] == "two"
        assert [one["rules"][0]["holds"] for one in told["platforms"]] == [False] * 4


def test_two_records_of_one_place_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(log(tmp_path / name / "log.jsonl", [{**RECORD, "Id": name}]))
    code, out, err = run(capsys, "exchange_admin_cmdlet", "log.jsonl:1", "--log", *paths)
    assert (code, out) == (2, "") and "names 2 records" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such_rule", "x"], "is no rule of the pack"),
        (
            ["exchange_admin_cmdlet", "exchange_admin_cmdlet-match"],
            'holds no event "exchange_admin_cmdlet-match"',
        ),
        (["exchange_admin_cmdlet", "x", "--log", "/no/such/file"], "cannot be read"),
        (["exchange_admin_cmdlet"], "required"),
        (["exchange_admin_cmdlet", "x", "--platform", "qradar"], "invalid choice"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and said in err


HOSTILE = "\x1b[31mred\x07\r\nfires \u202egpj\u2028 \ud800 `rm`"


def test_nothing_in_a_record_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {**RECORD, "UserId": HOSTILE, HOSTILE: HOSTILE, "Operation": f"Search-Mailbox {HOSTILE}"}
    path = log(tmp_path / "log.jsonl", [record | {"Id": HOSTILE}])
    code, out, _ = run(capsys, "exchange_admin_cmdlet", "log.jsonl:1", "--log", path)
    assert code == 0
    assert all(line.isprintable() for line in out.split("\n"))
    assert "\\x1b[31mred" in out
    told = explained(capsys, "exchange_admin_cmdlet", "log.jsonl:1", "--log", path)
    assert [one["rules"][0]["holds"] for one in told["platforms"]] == [True] * 4


def test_nothing_in_a_rule_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.yml"
    text = (ROOT / "sigma/core/exchange_admin_cmdlet.yml").read_text(encoding="utf-8")
    # A value with its note, which names a value of the rule.
    for old, new in (("- Search-Mailbox\n", "- {}\n"), ("    Search-Mailbox:", "    {}:")):
        assert text.count(old) == 1
        text = text.replace(old, new.format('"Search\\e\\u202e-Mailbox"'))
    path.write_text(text, encoding="utf-8")
    code, out, _ = run(capsys, str(path), "one", "--log", log(tmp_path / "log.jsonl", [RECORD]))
    assert code == 0 and all(line.isprintable() for line in out.split("\n"))


ODD = """title: t
id: 11111111-1111-4111-8111-111111111111
logsource: {product: m365, service: exchange}
detection:
  a: {UserId|fieldref: MailboxOwnerUPN}
  b: {Operation: Search-Mailbox}
  condition: b and not a
"""


def test_what_a_platform_cannot_say_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lucene compares no two fields; that is no "false", and the others answer."""
    path = tmp_path / "odd.yml"
    path.write_text(ODD, encoding="utf-8")
    export = log(tmp_path / "log.jsonl", [RECORD])
    told = {one["platform"]: one for one in explained(capsys, str(path), "one", "--log", export)["platforms"]}
    assert (
        "compare two fields" in told["elastic"]["refused"] or "MailboxOwnerUPN" in told["elastic"]["refused"]
    )
    assert told["elastic"]["rules"] == []
    assert all(told[name]["rules"][0]["holds"] for name in ("defender", "sentinel", "splunk"))
    _, out, _ = run(capsys, str(path), "one", "--log", export)
    assert "Elastic: cannot say this rule" in out


def test_what_an_engine_cannot_run_is_no_false(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A query that cannot be executed here is told as such, and silences no other."""
    path = tmp_path / "odd.yml"
    path.write_text(
        ODD.replace("a: {UserId|fieldref: MailboxOwnerUPN}", "a: {ClientIP|cidr: 203.0.113.0/24}"),
        encoding="utf-8",
    )
    export = log(tmp_path / "log.jsonl", [RECORD])
    for one in explained(capsys, str(path), "one", "--log", export)["platforms"]:
        answers = {s["name"]: s for s in one["rules"][0]["selections"]}
        assert answers["b"]["holds"] is True
        asked = (answers["a"]["holds"], answers["a"]["refused"])
        assert asked == (False, None) or (asked[0] is None and "cannot be executed" in asked[1])


def test_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "suspicious_ews_client", "suspicious_ews_client-match-1", "--platform", "sentinel"
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("rule   suspicious_ews_client  ")
    assert "Microsoft Sentinel: fires" in lines
    assert "  stored in OfficeActivity, by pipelines/m365/sentinel.sql" in lines
    told = [line.split() for line in lines]
    assert ["true", "selection"] in told
    assert any(words[:2] == ["rewritten", "RecordType"] for words in told)
    # Columns stand below one another.
    arrows = {line.index("->") for line in lines if "->" in line}
    assert len(arrows) == 1


def test_of_windows_that_overlap_the_first_that_fires_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five owners across the full hour, and four and a fifth that is too late for all of them."""
    root = core_alone(copy_of_the_sources(tmp_path / "pack"))
    rule = "bulk_cross_mailbox_access"
    path = root / f"sigma/core/{rule}.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("windows: clock\n", ""), encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", root)
    times = {0: "10:58", 1: "10:59", 2: "11:00", 3: "11:01", 4: "11:03"}
    burst = [{**one, "CreationTime": f"2026-03-10T{times[n]}:00"} for n, one in enumerate(bulk(5))]
    late = [*burst[:4], {**burst[4], "CreationTime": "2026-03-10T12:05:00"}]
    for records, value, fires in ((burst, 5, True), (late, 4, False)):
        told = explained(capsys, rule, "r1", "--log", log(tmp_path / "log.jsonl", records))
        for one in told["platforms"]:
            [window] = one["correlation"]["windows"]
            assert (window["value"], window["fires"]) == (value, fires), one["platform"]
            assert window["window"] == "2026-03-10T10:00:00Z"
            assert window["events"] == ["r0", "r1", "r2", "r3", "r4"][:value]

"""The trap: an exclusion that is proposed and loses a true hit, or that leaves the false ones in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.model.documents import Document
from detection_pack.model.pack import load_pack
from detection_pack.model.site_lists import load_list_filters
from detection_pack.tune.candidates import candidates, value_of

SCRIPT = "Client=WebServices;python-requests/2.31;"


def mail(id: str, account: str, address: str, **more: Any) -> dict[str, Any]:
    return {
        "Id": id,
        "CreationTime": "2026-03-11T10:00:00",
        "RecordType": 2,
        "Operation": "Create",
        "Workload": "Exchange",
        "UserId": account,
        "ClientIPAddress": address,
        "ClientIP": address,
        "ClientInfoString": SCRIPT,
        **more,
    }


def tune(
    tmp_path: Path, records: list[dict[str, Any]], rule: str, *false: str, platforms: Sequence[str] = ()
) -> int:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    named = [part for one in false for part in ("--benign", one)]
    named += [part for one in platforms for part in ("--platform", one)]
    return main(["--root", str(ROOT), "tune", str(log), "--rule", rule, *named])


def test_the_smallest_exclusion_is_proposed_and_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        mail("f1", "svc@contoso.example", "198.51.100.7"),
        mail("f2", "SVC@contoso.example", "198.51.100.7"),
    ]
    # The account elsewhere, another account there, and the same with another client.
    records += [
        mail("t1", "svc@contoso.example", "198.51.100.9"),
        mail("t2", "eve@contoso.example", "198.51.100.7"),
    ]
    records.append(
        mail("t3", "svc@contoso.example", "198.51.100.7", ClientInfoString="Client=WebServices;curl/8;")
    )
    assert tune(tmp_path, records, "suspicious_ews_client", "f1", "f2") == 0
    said = capsys.readouterr().out
    assert (
        "scripted_clients:" in said and "2 hits named as false are gone from this log, and 3 others" in said
    )
    (tmp_path / "site.yml").write_text(said, encoding="utf-8")
    asked = ["replay", str(tmp_path / "log.jsonl"), "--rule", "suspicious_ews_client", "--format", "json"]
    assert main(["--root", str(ROOT), *asked, "--site", str(tmp_path / "site.yml")]) == 0
    [rule] = json.loads(capsys.readouterr().out)["rules"]
    assert (rule["hits"], rule["lists"]) == (5, {"scripted_clients": {"hits": 3}})


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [mail(id, "svc@contoso.example", "198.51.100.7") for id in ("f1", "t1")]
    assert tune(tmp_path, records, "suspicious_ews_client", "f1") == 1
    said = capsys.readouterr()
    assert said.out == "" and "f1 and t1 are the same in UserId, ClientIP, ClientAgent" in said.err


def test_an_id_that_is_no_hit_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(tmp_path, [mail("f1", "a", "198.51.100.7")], "suspicious_ews_client", "f2\x1b[31m") == 2
    said = capsys.readouterr().err
    assert "has no hit that is called f2" in said and "\x1b" not in said


def test_a_filter_where_no_list_is_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def admin(id: str, agent: str) -> dict[str, Any]:
        return {
            "Id": id,
            "CreationTime": "2026-03-11T10:00:00",
            "RecordType": 1,
            "Operation": "Search-Mailbox",
            "Workload": "Exchange",
            "UserId": "admin@contoso.example",
            "ClientIP": "203.0.113.24",
            "UserAgent": agent,
        }

    records = [admin("f1", "Job*"), admin("t1", "Browser"), admin("t2", "Jobs")]
    # The table of Sentinel has no user agent: what cannot hold there is refused.
    assert tune(tmp_path, records, "exchange_admin_cmdlet", "f1", platforms=("sentinel",)) == 1
    assert "left a false hit on sentinel" in capsys.readouterr().err
    assert tune(tmp_path, records, "exchange_admin_cmdlet", "f1", platforms=("splunk",)) == 0
    said = capsys.readouterr().out
    assert (
        "a Sigma filter" in said
        and r"UserAgent: Job\*" in said
        and "rules:\n  - exchange_admin_cmdlet" in said
    )


def test_a_burst_is_named_by_its_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        mail(
            f"{account}{n}",
            f"{account}@contoso.example",
            "198.51.100.7",
            MailboxOwnerUPN=f"user{n}@contoso.example",
            ClientInfoString="Client=OWA;",
        )
        for account in ("svc", "eve")
        for n in range(5)
    ]
    chosen = ("defender", "splunk")
    assert tune(tmp_path, records, "bulk_cross_mailbox_access", "svc@contoso.example", platforms=chosen) == 0
    said = capsys.readouterr().out
    assert (
        "archive_services:" in said and "1 hits named as false are gone from this log, and 1 others" in said
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A", "1"),
        ("B.C", "text"),
        ("L.One", "x"),
        ("hidden", "deep"),
        ("Flag", "true"),
        ("Empty", None),
        ("L.None", None),
        ("B", None),
    ],
)
def test_the_value_of_a_field(name: str, value: str | None) -> None:
    record = {
        "A": 1,
        "B": {"C": "text"},
        "L": [{"Name": "One", "Value": "x"}, {"Name": "Two", "Value": "y"}],
        "event": {"parameters": [{"name": "hidden", "value": "deep"}]},
        "Flag": True,
        "Empty": " ",
    }
    assert value_of(record, name) == value


def test_a_row_of_a_record_that_lacks_a_field_is_not_proposed() -> None:
    pack = load_pack(ROOT)
    rule = pack.rule("suspicious_ews_client")
    main_document: Document = rule.main
    false = [mail("f", "a@contoso.example", "198.51.100.7"), {"Id": "g", "UserId": "a@contoso.example"}]
    true = [mail("t", "b@contoso.example", "198.51.100.7")]
    found = candidates(rule, main_document, load_list_filters(ROOT), false, true)
    assert [(one.fields, one.rows) for one in found] == [(("UserId",), (("a@contoso.example",),))]

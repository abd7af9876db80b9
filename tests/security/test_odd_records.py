"""The trap: one record of a log that stops the others, or that the platforms read differently.

An address with a zone is no address to Elasticsearch or to DuckDB's network type; ``1.0`` is what a data
frame makes of the number 1 as soon as another record has none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.replay.verdict import replay
from support.exports import read_events

RULE = "exchange_admin_cmdlet"
ATTACK: dict[str, Any] = {
    "CreationTime": "2026-11-01T10:00:00",
    "Id": "attack",
    "Operation": "New-MailboxExportRequest",
    "RecordType": 1,
    "UserId": "u@contoso.example",
    "Workload": "Exchange",
    "ClientIP": "192.0.2.1",
}


def found(folder: Path, *records: dict[str, Any]) -> dict[str, set[str]]:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    sources = load_log_sources(ROOT)
    events: dict[str, set[str]] = {name: set() for name in PLATFORMS}
    for hit in replay(DIST, read_events([path], sources), rules=[RULE], sources=sources.values()):
        events[hit.platform] |= hit.events
    return events


@pytest.mark.parametrize("address", ["fe80::1%eth0", "[fe80::1%25eth0]:443", "::ffff:1.2.3.4%", "%", "1.2.3"])
def test_the_replay_goes_on_after_an_address_that_is_none(tmp_path: Path, address: str) -> None:
    odd = {**ATTACK, "Id": "odd", "ClientIP": address}
    quiet = {**odd, "Id": "quiet", "Operation": "Send", "RecordType": 2}
    assert found(tmp_path, quiet, ATTACK, odd) == {name: {"attack", "odd"} for name in PLATFORMS}


@pytest.mark.parametrize("number", [1.0, "1", "ExchangeAdmin"])
def test_a_number_in_another_spelling_is_that_number(tmp_path: Path, number: object) -> None:
    assert found(tmp_path, {**ATTACK, "RecordType": number}) == {name: {"attack"} for name in PLATFORMS}


@pytest.mark.parametrize("number", [1.5, True, None, [1.0], 2.0])
def test_another_number_stays_another(tmp_path: Path, number: object) -> None:
    odd = {**ATTACK, "Id": "odd", "RecordType": number}
    assert found(tmp_path, odd, ATTACK) == {name: {"attack"} for name in PLATFORMS}


def test_a_record_that_python_takes_for_another_is_not_lost(tmp_path: Path) -> None:
    """Two records with one id, of which Python says that they are equal: True is 1 to it."""
    again = {name: {"attack (log.jsonl:2)"} for name in PLATFORMS}
    assert found(tmp_path, {**ATTACK, "RecordType": True}, ATTACK) == again
    assert found(tmp_path, ATTACK, ATTACK) == {name: {"attack"} for name in PLATFORMS}

"""The trap: a simulation on which no alert comes, and nobody knows whether pipeline or records failed.

What `simulate` writes is read back by `replay`, as any export is: exactly the rules that it printed fire.
Bursts keep their distances and their place in the hour, whenever it is asked for; the same question gives the
same bytes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.model.case import log_source_of
from detection_pack.model.pack import Pack
from detection_pack.model.record_time import value_at
from detection_pack.simulate.record_sets import load_record_sets
from detection_pack.simulate.simulation import MARK, chosen, simulated
from support.sources import SOURCES

SETS = load_record_sets(ROOT, SOURCES)
RULES = sorted({name for one in SETS for name in one.fires})
#: Rules that cannot fire without another one: what they look for, the other looks for, too.
NEVER_ALONE = {
    "ediscovery_search_then_export": ["ediscovery_export"],
    "exchange_server_export_removed": ["exchange_server_export"],
    "self_grant_then_read": ["mailbox_permission_granted"],
    "suspicious_ews_client": ["scripted_mail_client"],
    "vault_search_then_export": ["vault_export"],
}
AT = datetime(2026, 11, 27, 0, 4, 5, tzinfo=UTC)


def write(folder: Path, *more: str) -> Path:
    out = folder / "simulated.jsonl"
    assert main(["--root", str(ROOT), "simulate", "--out", str(out), *more]) == 0
    return out


def fired(path: Path, rules: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Those of the rules that have a hit."""
    capsys.readouterr()
    chosen_rules = [part for rule in rules for part in ("--rule", rule)]
    command = ["replay", str(path), "--quiet", "--strict", "--format", "json", *chosen_rules]
    assert main(["--root", str(ROOT), *command]) == 0
    return {rule["rule"] for rule in json.loads(capsys.readouterr().out)["rules"] if rule["hits"]}


def printed(capsys: pytest.CaptureFixture[str]) -> set[str]:
    [line] = [one for one in capsys.readouterr().out.splitlines() if one.startswith("fires: ")]
    return set(line.removeprefix("fires: ").split(", "))


def test_replay_of_the_file_fires_the_rules_asked_for(
    tmp_path: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each set by itself is executed in test_record_sets.py. A rule of another log source has no record."""
    asked = {"onprem_powershell_collection", "graph_mail_search"}
    out = write(tmp_path, *(part for rule in asked for part in ("--rule", rule)))
    assert printed(capsys) == asked
    sources = {log_source_of(rule, SOURCES).name for rule in pack.rules if rule.name in asked}
    near = [rule.name for rule in pack.rules if log_source_of(rule, SOURCES).name in sources]
    assert len(near) > len(asked)
    assert fired(out, near, capsys) == asked


def test_a_rule_is_fired_alone_wherever_it_can_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rule in RULES:
        beside = NEVER_ALONE.get(rule, [])
        made = simulated(chosen(SETS, [rule]), AT, [rule])
        assert set(made.fires) == {rule, *beside} and list(made.beside) == beside
    write(tmp_path, "--rule", "vault_search_then_export")
    assert "not asked for, and fires on the same records: vault_export" in capsys.readouterr().out


def test_of_several_rules_only_their_sets_are_taken() -> None:
    for asked in (["vault_export", "vault_search_then_export"], ["graph_mail_search", "ews_reopened"]):
        assert {name for one in chosen(SETS, asked) for name in one.fires} == set(asked)
    assert chosen(SETS, []) == SETS


@settings(max_examples=30, deadline=None)
@given(at=st.datetimes(datetime(2025, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)))
def test_distances_stay_and_the_last_is_at_most_an_hour_old(at: datetime) -> None:
    made = simulated(SETS, at)
    assert at - timedelta(hours=1) < made.last <= at
    after = [_time(record) for record in made.records]
    assert after == sorted(after) and (after[0], after[-1]) == (made.first, made.last)
    assert [late - after[0] for late in after] == [late - BEFORE[0] for late in BEFORE]
    # Windows of the clock count by the hour: what stands in one stays in one.
    assert (after[0] - BEFORE[0]) % timedelta(hours=1) == timedelta(0)


def _time(record: dict[str, Any]) -> datetime:
    [source] = [s for s in SOURCES.values() if s.simulation and value_at(record, s.simulation.mark) == MARK]
    moment = source.time.of(record)
    assert moment is not None
    return moment


BEFORE = sorted(raw.source.time.of(raw.record) or AT for one in SETS for raw in one.records)


def test_the_same_question_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path, "--at", "2026-11-27T01:04:05+01:00").read_bytes()
    assert write(tmp_path, "--at", "2026-11-27T00:04:05Z").read_bytes() == first
    assert simulated(SETS, AT).lines() == first
    assert simulated(SETS, AT + timedelta(hours=1)).lines() != first


def test_every_record_is_marked_and_has_identifiers_of_its_own() -> None:
    one, other = simulated(SETS, AT), simulated(SETS, AT + timedelta(seconds=1))
    seen: set[tuple[str, str]] = set()
    for made in (one, other):
        raws = [raw for each in SETS for raw in each.records]
        assert len(made.records) == len(raws)
        marks = {source.simulation.mark for source in SOURCES.values() if source.simulation}
        for record in made.records:
            assert [name for name in marks if value_at(record, name) == MARK], record
    for source in SOURCES.values():
        assert source.simulation is not None
        sets = [each for each in SETS if each.records[0].source is source]
        for at in (AT, AT + timedelta(seconds=1)):
            for record in simulated(sets, at).records:
                assert value_at(record, source.simulation.mark) == MARK
                for name in source.simulation.ids:
                    key = (name, str(value_at(record, name)))
                    assert key not in seen
                    seen.add(key)


def test_times_are_written_as_the_source_writes_them() -> None:
    [written] = simulated(chosen(SETS, ["onprem_powershell_collection"]), AT).records
    assert written["UtcTime"] == "2026-11-26 23:10:00.123"
    [written] = simulated(chosen(SETS, ["graph_mail_search"]), AT).records
    assert written["time"] == "2026-11-26T23:10:00.123456Z"
    [written] = simulated(chosen(SETS, ["mailbox_audit_disabled"]), AT).records
    assert written["CreationTime"] == "2026-11-26T23:10:00"


def test_without_a_time_it_is_now(tmp_path: Path) -> None:
    out = write(tmp_path, "--rule", "mailbox_audit_disabled")
    [record] = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    made = datetime.fromisoformat(record["CreationTime"]).replace(tzinfo=UTC)
    assert timedelta(0) <= datetime.now(UTC) - made < timedelta(hours=1, minutes=1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--rule", "graph_mail_serch"],
            'without records: "graph_mail_serch"; did you mean "graph_mail_search"?',
        ),
        (["--rule", "x\x1b[31m"], "names a rule without records"),
        (["--out", "/nowhere/at/all.jsonl"], "cannot be written"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--root", str(ROOT), "simulate", "--out", str(tmp_path / "x.jsonl"), *more]
    try:
        code = main(command)
    except SystemExit as stopped:
        code = int(str(stopped.code))
    shown = capsys.readouterr().err
    assert code == 2 and said in shown and len(shown.splitlines()) == 1 and "\x1b" not in shown
    assert not (tmp_path / "x.jsonl").exists()


def test_a_time_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "--out", str(tmp_path / "x"), "--at", "yesterday"])
    assert stopped.value.code == 2
    assert "must be a time such as" in capsys.readouterr().err

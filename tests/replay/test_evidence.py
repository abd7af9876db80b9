"""The trap: an export that people have, and that the product refuses or reads as something else.

`tests/data/evidence` holds twelve records in every form in which they are exported, and exports with one
thing wrong: each must give the hits of the plain records, and say what it left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.cli import main
from detection_pack.model.findings import PackError
from detection_pack.model.pack import load_pack
from detection_pack.model.rule import Rule
from detection_pack.replay.needs import wanted_keys
from detection_pack.replay.reading import Reading, read
from detection_pack.replay.verdict import exact, replay, selected
from support.rule_sample import kinds, sample
from support.sources import SOURCES

EVIDENCE = ROOT / "tests" / "data" / "evidence"
CONTROL = "00_control_all_rules_fire.jsonl"
PLATFORMS = ("sentinel", "defender")
EWS, ADMIN = (f"00000000-0000-4000-8000-0000000000{n}" for n in (10, 11))
OWA_CLIENT = "00000000-0000-4000-8000-000000000010 (99_same_id_other_content.jsonl:2)"
Found = list[tuple[str, str, tuple[str, ...], float | None]]


#: Rules by name; None is every rule.
Rules = frozenset[str] | None


def reading_of(*names: str, rules: Rules, whole: bool = False) -> Reading:
    return read([EVIDENCE / name for name in names], SOURCES, None if whole else wanted(rules))


@cache
def rules_by_name() -> Mapping[str, Rule]:
    return {rule.name: rule for rule in load_pack(ROOT).rules}


@cache
def wanted(rules: Rules) -> Mapping[str, frozenset[str] | None]:
    return wanted_keys(DIST, selected(rule_entries(DIST), rules), PLATFORMS, SOURCES, rules_by_name())


def hits(reading: Reading, rules: Rules) -> Found:
    found = exact(replay(DIST, reading.records, PLATFORMS, rules, SOURCES.values()))
    return sorted(
        (one.platform, one.rule, tuple(sorted(one.events)), one.value) for one in found if _hit(one)
    )


def _hit(one: object) -> bool:
    return bool(getattr(one, "events", None)) or getattr(one, "window", None) is not None


def on_all(*expected: tuple[str, tuple[str, ...], float | None]) -> Found:
    return sorted((platform, *one) for platform in PLATFORMS for one in expected)


def scripted(name: str) -> tuple[tuple[str, tuple[str, ...], None], ...]:
    """A scripted client, which a core rule and its successor find."""
    return (("scripted_mail_client", (name,), None), ("suspicious_ews_client", (name,), None))


ALL = on_all(
    ("bulk_cross_mailbox_access", (), 6.0),
    ("exchange_admin_cmdlet", (ADMIN,), None),
    *scripted(EWS),
)


def process(*names: str) -> Found:
    return on_all(("onprem_powershell_collection", names, None))


# Of the overlapping windows the first that fires is told, and it holds five of the six.
READ_BY_ONE = on_all(("account_reads_many_mailboxes", (), 5.0))
CLIENT = "00000000-0000-4000-8000-000000000{}"

#: Every case: its hits, and how many records are read, repeated, skipped (with the line) and of other kinds.
CASES: dict[str, tuple[Found, int, int, list[int], int]] = {
    CONTROL: (ALL, 11, 1, [], 0),
    "02_lines_utf16.jsonl": (ALL, 11, 1, [], 0),
    "03_lines.jsonl.gz": (ALL, 11, 1, [], 0),
    "06_truncated.jsonl": (ALL, 11, 0, [12], 0),
    "22_purview_utf16le.csv": (ALL, 11, 1, [], 0),
    "28_purview_one_empty_auditdata.csv": (
        on_all(
            ("bulk_cross_mailbox_access", (), 5.0),
            ("exchange_admin_cmdlet", (ADMIN,), None),
            *scripted(EWS),
        ),
        *(10, 1, [4], 0),
    ),
    "31_exportcsv_type.csv": (ALL, 11, 1, [], 0),
    "32_exportcsv_type_utf16.csv": (ALL, 11, 1, [], 0),
    "40_convertto_json.json": (ALL, 11, 1, [], 0),
    "43_search_ual_lines.jsonl": (ALL, 11, 1, [], 0),
    "50_graph.json": (ALL, 11, 1, [], 0),
    "60_officeactivity.jsonl": (ALL, 11, 1, [], 0),
    "61_officeactivity.csv": (ALL, 11, 1, [], 0),
    "63_cloudappevents.csv": (ALL, 11, 1, [], 0),
    "70_pretty_concat.json": (ALL, 11, 1, [], 0),
    "75_one_without_time.jsonl": (
        on_all(
            ("bulk_cross_mailbox_access", (), 5.0),
            ("exchange_admin_cmdlet", (ADMIN,), None),
            *scripted(EWS),
        ),
        *(10, 1, [4], 0),
    ),
    "80_folder": (ALL, 11, 13, [], 0),
    "90_dpe_no_reportid.csv": (process("90_dpe_no_reportid.csv:3"), 2, 0, [], 0),
    "92_dpe_control.csv": (process("2024-05-02T10:05:00Z/d1/8"), 2, 0, [], 0),
    "93_dpe_portal_time.csv": (process("5/2/2024, 10:05:00.123 AM/d1/8"), 1, 0, [], 0),
    "95_evtx_dump_4688.jsonl": (process("95_evtx_dump_4688.jsonl:1"), 1, 0, [], 0),
    "97_defender_mixed.jsonl": (on_all(*scripted(EWS)), 1, 0, [], 1),
    "98_bad_time_in_sharepoint_row.jsonl": (ALL, 10, 1, [9], 0),
    "99_same_id_other_content.jsonl": (on_all(*scripted(OWA_CLIENT)), 2, 0, [], 0),
    "a1_copy_recordtype3_six_mailboxes.jsonl": (READ_BY_ONE, 6, 0, [], 0),
    "a2_mailitemsaccessed_six_mailboxes.jsonl": (READ_BY_ONE, 6, 0, [], 0),
    "a3_folderbind_empty_userid.jsonl": (READ_BY_ONE, 6, 0, [], 0),
    "a4_create_empty_userid_six_mailboxes.jsonl": (
        on_all(("bulk_cross_mailbox_access", (), 6.0)),
        *(6, 0, [], 0),
    ),
    "a6_one_app_six_mailboxes.jsonl": (on_all(("app_reads_many_mailboxes", (), 5.0)), 6, 0, [], 0),
    "a7_other_clients.jsonl": (
        on_all(
            (
                "scripted_mail_client",
                tuple(map(CLIENT.format, (401, 403, 404, 405, 407, 408, 409, 410))),
                None,
            ),
            ("suspicious_ews_client", (CLIENT.format(410),), None),
        ),
        *(11, 0, [], 0),
    ),
    # As the reference query does; the rules that are not bound to it stay silent.
    "a8_false_alarm_group_provisioning.jsonl": (
        on_all(("bulk_cross_mailbox_access", (), 5.0)),
        *(5, 0, [], 0),
    ),
}


#: Every rule that finds something in a case: the ordinary run asks them alone. That the others stay silent it
#: asks of the control with the sample of all log sources; a campaign asks every rule of every eleventh case.
FIND = frozenset(rule for expected, *_ in CASES.values() for _, rule, _, _ in expected)
EVERY_CASE = [
    pytest.param(CONTROL, FIND | sample(), id="control-sample"),
    *(pytest.param(name, FIND, id=name) for name in CASES),
    *(pytest.param(name, None, id=f"{name}-all", marks=pytest.mark.campaign) for name in list(CASES)[::11]),
]
#: One case for each way in which a file is read, of which the ordinary run reads the whole records too.
WAYS = (CONTROL, "22_purview_utf16le.csv", "43_search_ual_lines.jsonl", "61_officeactivity.csv",
        "93_dpe_portal_time.csv", "95_evtx_dump_4688.jsonl", "97_defender_mixed.jsonl")  # fmt: skip


@pytest.mark.parametrize(("name", "rules"), EVERY_CASE)
def test_the_hits_are_those_of_the_plain_records(name: str, rules: Rules) -> None:
    expected, count, repeated, skipped, other = CASES[name]
    with reading_of(name, rules=rules) as reading:
        assert hits(reading, rules) == expected
        assert sum(reading.counts.values()) == count
        assert reading.repeated == repeated
        assert [finding.line for finding in reading.skipped.first] == skipped
        assert reading.skipped.count == len(skipped)
        assert sum(reading.other.values()) == other
        assert reading.unreadable == ()


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        *((name, FIND) for name in WAYS),
        *(
            pytest.param(name, FIND | kinds(), id=f"{name}-kinds", marks=pytest.mark.campaign)
            for name in WAYS[::2]
        ),
    ],
)
def test_whole_records_give_the_same_hits(name: str, rules: Rules) -> None:
    with reading_of(name, rules=rules, whole=True) as reading:
        assert hits(reading, rules) == CASES[name][0]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("a3_folderbind_empty_userid.jsonl", "account_reads_many_mailboxes"),
        ("a4_create_empty_userid_six_mailboxes.jsonl", "bulk_cross_mailbox_access"),
    ],
)
def test_an_account_without_a_name_is_shown_by_its_sid(name: str, rule: str) -> None:
    with reading_of(name, rules=FIND) as reading:
        found = exact(replay(DIST, reading.records, PLATFORMS, [rule], SOURCES.values()))
    groups = [hit.group for hit in found if hit.rule == rule and hit.group]
    assert len(groups) == len(PLATFORMS)
    assert {dict(group)["UserId"] for group in groups} == {"s-1-5-21-1-2-3-1001"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("07_empty.jsonl", "holds no record"),
        ("26_purview_header_only.csv", "holds no record"),
        ("b2_deviceevents_row_hits.jsonl", "holds 1 records, none of a kind that the pack reads"),
    ],
)
def test_nothing_read_is_an_error(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PackError, match=said):
        reading_of(name, rules=FIND)
    assert main(["replay", "--platform", "sentinel", str(EVIDENCE / name)]) == 2
    said_by_command = capsys.readouterr()
    assert said in said_by_command.err and said_by_command.out == ""


def test_every_case_is_there() -> None:
    nothing = {"07_empty.jsonl", "26_purview_header_only.csv", "b2_deviceevents_row_hits.jsonl"}
    assert {path.name for path in EVIDENCE.iterdir()} == CASES.keys() | nothing


def test_any_mix_of_files_is_one_run() -> None:
    names = [name for name in CASES if name[0] in "023456"]
    with reading_of(*names, "07_empty.jsonl", "b2_deviceevents_row_hits.jsonl", rules=FIND) as reading:
        assert {hit[1] for hit in hits(reading, FIND)} == {hit[1] for hit in ALL}
        assert len(reading.unreadable) == 2
        assert len(reading.files) == len(names) + 1


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(("0", "2", "3", "4", "5", "63", "7"))])
def test_a_record_is_found_again_whole_with_its_line(name: str) -> None:
    control: dict[str, dict[str, object]] = {}
    for line in (EVIDENCE / CONTROL).read_text(encoding="utf-8").splitlines():
        control.setdefault(json.loads(line)["Id"], json.loads(line))
    with reading_of(name, rules=FIND) as reading:
        found = reading.record("m365", ADMIN)
        assert found is not None and found.path == str(EVIDENCE / name)
        assert {k: found.record[k] for k in control[ADMIN]} == control[ADMIN]
        assert found.line >= 1
        assert reading.record("m365", "none") is None
    if name == CONTROL:
        assert found.line == 2


def test_what_a_table_cannot_say_is_said() -> None:
    with reading_of("61_officeactivity.csv", rules=FIND) as reading:
        [finding] = reading.partial
        assert re.search(r"has nothing for (?:\w+, )*UserAgent\b", str(finding))
    with reading_of(CONTROL, rules=FIND) as reading:
        assert reading.partial == ()

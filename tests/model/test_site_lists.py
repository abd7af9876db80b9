"""The trap: a list that leaves out more than its rows say, or less, or something when it is empty.

A row is tried on every rule that it is for and on every platform, by execution: a record that has all of its
values is gone, and one that differs in any of them still fires.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.build.dist import Built, make, write
from detection_pack.cli import main
from detection_pack.model.case import Case, events_file, load_cases, log_source_of
from detection_pack.model.event import Event, Hit
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.site_lists import (
    SHARE,
    ListFilter,
    Site,
    load_list_filters,
    load_site,
    with_site,
)
from detection_pack.platforms.platform import platform
from detection_pack.replay.verdict import replay
from detection_pack.tune.candidates import value_of

LISTS = load_list_filters(ROOT)
#: Values that a field takes, and another one, by parameter; the number tells a list and a rule apart.
VALUES = {
    "agent": ("Client=WebServices;curl/8.{};", "Client=WebServices;curl/9.{};"),
    "address": ("198.51.100.{}", "203.0.113.{}"),
    "account": ("svc-{}@contoso.example", "other-{}@contoso.example"),
    "share": (r"\\fs{}.contoso.example\mig", r"\\fs{}.contoso.example\mig$"),
}
#: What a rule looks for itself, so that no other value would do.
CHOSEN = {("mail_read_by_abused_app", "application")}
#: A batch has no address that shows what it asks, and Defender XDR not the permissions that stand in for it.
UNSEEN = {("batching_applications", "graph_mailbox_export", "defender")}


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack(ROOT)


def site_of(tmp_path: Path, stated: Any) -> Path:
    path = tmp_path / "site.yml"
    path.write_text(json.dumps(stated, indent=1), encoding="utf-8")
    return path


def put(record: dict[str, Any], name: str, value: str) -> None:
    """Give a record a field: of a list of names and values, of an object, or a key of its own."""
    head, dot, rest = name.partition(".")
    if not dot and isinstance(record.get("event"), dict):
        old = [one for one in record["event"].get("parameters", ()) if one["name"] != name]
        record["event"]["parameters"] = [*old, {"name": name, "value": value}]
    elif dot and isinstance(record.get(head), list):
        old = [one for one in record[head] if one["Name"] != rest]
        key = "NewValue" if any("NewValue" in one for one in old) else "Value"
        record[head] = [*old, {"Name": rest, key: value}]
    elif dot and name not in record:
        put(record.setdefault(head, {}), rest, value)
    else:
        record[name] = value
    if name == "properties.ipAddress":
        # The same address stands in a record of Graph twice.
        record["callerIpAddress"] = value


@dataclass(frozen=True)
class Tried:
    """Records of a rule's case that a row is to leave out, and rows that are each in one value another."""

    within: str
    rule: str
    events: tuple[Event, ...]
    row: Mapping[str, list[str]]
    others: tuple[Mapping[str, list[str]], ...]
    marks: frozenset[str]

    def is_hit(self, hit: Hit) -> bool:
        if hit.rule != self.rule or not platform(hit.platform).is_own_query(hit.artefact, self.rule):
            return False
        if hit.group is not None:
            return bool(self.marks & {value.lower() for _, value in hit.group})
        return bool(hit.events & {event.id for event in self.events})


def tries(pack: Pack) -> Iterator[Tried]:
    number = 0
    for name, filters in LISTS.items():
        for one in filters:
            for rule in pack.rules:
                if {str(d.data.get("name")) for d in rule.documents} & set(one.rules):
                    number += 1
                    yield made_up(pack, name, one, rule.name, number)


def made_up(pack: Pack, name: str, one: ListFilter, rule: str, number: int) -> Tried:
    cases = load_cases(events_file(ROOT, rule), log_source_of(pack.rule(rule), pack.sources))
    case = next(case for case in cases if fits(case, one) and holds(case, one))
    fields = {key.split("|")[0]: parameter for key, parameter in one.parameters.items()}
    row, other = {}, {}
    for key, parameter in fields.items():
        # What is another in each record stays so: a correlation may count it.
        own = [str(event.record[key]) for event in case.events if event.record.get(key)]
        varies = (len(set(own)) > 1 and parameter != SHARE) or (rule, parameter) in CHOSEN
        mine, others = VALUES.get(parameter, ("value{}", "another{}"))
        row[parameter] = sorted(set(own)) if varies else [mine.format(number)]
        other[parameter] = [others.format(number)]
    events = []
    for at, event in enumerate(case.events):
        record = copy.deepcopy(dict(event.record))
        for key, parameter in fields.items():
            if row[parameter] == [VALUES.get(parameter, ("value{}",))[0].format(number)]:
                domain = "CONTOSO\\" if (name, parameter) == ("scheduled_jobs", "account") else ""
                before = next((text for name, text in one.before.items() if name.startswith(f"{key}|")), "")
                after = '\\A.PST"' if parameter == SHARE else ""
                put(record, key, before + domain + row[parameter][0].upper() + after)
        for key, value in one.fixed.items():
            if value and not key.endswith("neq"):
                put(record, key.split("|")[0], value[-1] if isinstance(value, list) else value)
        if len(event.source.identity) == 1:
            put(record, event.source.identity[0], f"{number}-{at}")
        events.append(Event(f"{number}-{at}", event.source, record))
    near = tuple({**row, parameter: other[parameter]} for parameter in row)
    marks = {value for values in row.values() for value in values} | {*map(str, one.fixed.values())}
    return Tried(name, rule, tuple(events), row, near, frozenset(map(str.lower, marks)))


def fits(case: Case, one: ListFilter) -> bool:
    """Whether the case's records can have the fields: a consent has other properties than a grant."""
    heads = {key.split(".")[0] for key in one.parameters if "." in key}
    return case.matches and all(head in event.record for event in case.events for head in heads)


def holds(case: Case, one: ListFilter) -> bool:
    """Whether the records are of the filter's operation, and lack what it asks to be absent."""
    absent = [key.split("|")[0] for key, value in one.fixed.items() if value is False and "|exists" in key]
    return all(
        one.fixed.get("Operation") in (None, event.record.get("Operation"))
        and not any(value_of(event.record, name) for name in absent)
        for event in case.events
    )


def still(dist: Path, tried: Sequence[Tried], platforms: Sequence[str]) -> set[tuple[str, str, str]]:
    """``(list, rule, platform)`` of what fires, by the rules' own queries."""
    events = [event for one in tried for event in one.events]
    hits = replay(dist, events, platforms, rules={one.rule for one in tried})
    return {(one.within, one.rule, hit.platform) for one in tried for hit in hits if one.is_hit(hit)}


def built(pack: Pack, site: Site, kept: bool) -> Built:
    """With the rows in the queries, or in lists of the platforms."""
    return make(pack, site=site) if kept else make(with_site(pack, site))


@pytest.mark.parametrize("kept", [False, True], ids=["inlined", "kept"])
@pytest.mark.parametrize("tier", ["core", pytest.param("others", marks=pytest.mark.campaign)])
def test_a_row_leaves_out_exactly_what_it_says(tier: str, kept: bool, pack: Pack, tmp_path: Path) -> None:
    tried = [one for one in tries(pack) if (pack.rule(one.rule).tier == "core") is (tier == "core")]
    rules = tuple(rule for rule in pack.rules if rule.name in {one.rule for one in tried})
    pack = replace(pack, rules=rules)
    stated: dict[str, list[Any]] = {}
    near: dict[str, list[Any]] = {}
    for one in tried:
        stated.setdefault(one.within, []).append({**one.row, "reason": "ticket 4711"})
        near.setdefault(one.within, []).extend(one.others)
    write(built(pack, load_site(site_of(tmp_path, stated), LISTS), kept), tmp_path / "exact")
    write(built(pack, load_site(site_of(tmp_path, near), LISTS), kept), tmp_path / "near")
    platforms = [name for name in PLATFORMS if not (kept and platform(name).keeps_no_lists)]
    had = {
        (one.within, one.rule, name)
        for one in tried
        for name in platforms
        if not absent(pack, one.rule, name)
    }
    assert still(tmp_path / "near", tried, platforms) == {one for one in had - UNSEEN if one[2] in platforms}
    assert still(tmp_path / "exact", tried, platforms) == set()
    if tier != "core":
        assert {one.within for one in tries(load_pack(ROOT))} == set(LISTS)


#: The cmdlets of mail_copied_by_rule, and the parameters of each that hold an address.
ADDRESSES = {
    "New-InboxRule": ["ForwardTo", "ForwardAsAttachmentTo", "RedirectTo"],
    "New-TransportRule": ["BlindCopyTo", "CopyTo", "AddToRecipients", "RedirectMessageTo"],
    "Set-Mailbox": ["ForwardingAddress", "ForwardingSmtpAddress"],
    "New-JournalRule": ["JournalEmailAddress"],
}
AGREED, EVIL, APP = "agreed@partner.example", "eve@fabrikam.example", "22222222-aaaa-4222-8222-222222222222"
OPENED = r'-Mailbox "a.owner" -FilePath "\\fs01.contoso.example\mig'
BESIDE_SITE = {
    "forwarding_addresses": [{"recipient": AGREED}],
    "consented_applications": [{"application": APP}],
    "server_migrations": [{"account": "a/svc-mig", "share": r"\\fs01.contoso.example\mig"}],
    "batching_applications": [{"application": APP}],
    "mail_programs": [{"application": APP}],
}


def beside() -> Iterator[tuple[str, bool, str, Mapping[str, Any]]]:
    """``(rule, whether a row takes it away, title of the case that it is made of, what is put there)``."""
    for operation, names in ADDRESSES.items():
        for name in names:
            # One mapping for several: the address of an attacker stands beside the one that is agreed.
            for other in [None, *names]:
                stated = [{"Name": name, "Value": AGREED}]
                if other not in (None, name):
                    stated.append({"Name": other, "Value": EVIL})
                if other != name:
                    changes = {"Operation": operation, "Parameters": stated}
                    yield "mail_copied_by_rule", other is None, "an inbox rule that forwards", changes
    application = {"ModifiedProperties.ServicePrincipal.AppId": APP}
    permission = "mail_permission_granted"
    yield permission, False, "full_access_as_app on Exchange Online, by an application", application
    yield permission, False, "Mail.Read, by name and by identifier", application
    for gone, parameters in [
        (True, OPENED + r'\a.owner.pst"'),
        (True, OPENED + r'\2026\a.owner.pst" -BatchName "mig"'),
        (False, OPENED + r'$\a.owner.pst"'),
        (False, OPENED + r'-other\a.owner.pst"'),
        (False, OPENED + r'\..\c$\inetpub\a.owner.pst"'),
        (False, OPENED + r'\x.aspx"'),
        (False, r'-Mailbox "a.owner" -BatchName "\\fs01.contoso.example\mig\" -FilePath "\\evil\x\a.pst"'),
        (False, r'-BatchName "-FilePath "\\fs01.contoso.example\mig\" -FilePath "\\evil\x\a.pst"'),
    ]:
        changes = {"Caller": "a/svc-mig", "CmdletParameters": parameters}
        yield "exchange_server_export", gone, "a mailbox is exported to a share", changes
    batch = "an application's token with the permission sends a batch"
    for gone, uri in [
        (True, "/v1.0/$batch"),
        (False, "/v1.0/users/a/messages?x=/$batch"),
        (False, "/v1.0/users/a/messages/$batch"),
    ]:
        changes = {"properties.appId": APP, "properties.requestUri": f"https://graph.microsoft.com{uri}"}
        yield "graph_mailbox_export", gone, batch, changes
    mine = "a user's own mail, the quotes percent-encoded"
    yield "graph_mail_search", True, mine, {"properties.appId": APP}
    own = {"properties.appId": APP, "properties.userId": "", "properties.servicePrincipalId": AGREED}
    yield "graph_mail_search", False, mine, own


def test_a_row_hides_nothing_that_stands_beside_its_values(pack: Pack, tmp_path: Path) -> None:
    events, gone = [], set()
    for number, (rule, goes, title, changes) in enumerate(beside()):
        cases = load_cases(events_file(ROOT, rule), log_source_of(pack.rule(rule), pack.sources))
        [case] = [case for case in cases if case.title == title and case.matches]
        record = copy.deepcopy(dict(case.events[0].record))
        for key, value in changes.items():
            put(record, key, value)
        if len(case.events[0].source.identity) == 1:
            put(record, case.events[0].source.identity[0], f"n{number}")
        events.append(Event(f"n{number}", case.events[0].source, record))
        gone |= {f"n{number}"} if goes else set()
    names = {rule for rule, *_ in beside()}
    few = replace(pack, rules=tuple(rule for rule in pack.rules if rule.name in names))
    site = load_site(site_of(tmp_path, BESIDE_SITE), LISTS)
    found = {}
    for label, made in (("shipped", few), ("listed", with_site(few, site))):
        write(make(made), tmp_path / label)
        hits = replay(tmp_path / label, events, rules=names)
        own = [hit for hit in hits if platform(hit.platform).is_own_query(hit.artefact, hit.rule)]
        found[label] = {(id, hit.platform) for hit in own for id in hit.events}
    assert {id for id, _ in found["shipped"]} == {event.id for event in events}
    assert found["listed"] == {(id, name) for id, name in found["shipped"] if id not in gone}


def absent(pack: Pack, rule: str, name: str) -> bool:
    return pack.pipelines[name].absence(pack.rule(rule)) is not None


def test_an_empty_list_changes_nothing(pack: Pack, tmp_path: Path) -> None:
    few = replace(pack, rules=tuple(rule for rule in pack.rules if rule.tier == "core"))
    forms: list[Any] = [{}, {name: [] for name in LISTS}, dict.fromkeys(LISTS)]
    for stated in forms:
        site = load_site(site_of(tmp_path, stated), LISTS)
        assert site.filters == ()
        assert with_site(few, site).rules == few.rules
    (tmp_path / "site.yml").write_text("# nothing yet\n", encoding="utf-8")
    assert make(with_site(few, load_site(tmp_path / "site.yml", LISTS))).files == make(few).files


def test_a_value_is_what_it_says(pack: Pack, tmp_path: Path) -> None:
    """An asterisk is one, a backslash does not hide it, and a network in other words is the same network."""
    row = {"account": "svc*?\\a", "address": ["2001:DB8:0::/32", "198.51.100.7"]}
    site = load_site(site_of(tmp_path, {"archive_services": [row]}), LISTS)
    [made] = with_site(replace(pack, rules=(pack.rule("suspicious_ews_client"),)), site).rules
    assert made.main.data["detection"]["_filter_1_row"] == [
        {"UserId": r"svc\*\?\\a", "ClientIPAddress|cidr": ["2001:db8::/32", "198.51.100.7/32"]}
    ]
    assert (made.documents[0].path_of("detection", "_filter_1_row"), made.path) == (
        tmp_path / "site.yml",
        pack.rule("suspicious_ews_client").path,
    )


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"archive_service": []}, 'no list is called "archive_service"; did you mean "archive_services"?'),
        ({"archive_services": {"account": "a"}}, "archive_services is not a list of rows"),
        ({"archive_services": ["a"]}, "a row of archive_services is not a mapping"),
        ({"archive_services": [{"account": "a"}]}, "states account; state account and address"),
        ({"archive_services": [{"account": "a", "address": "192.0.2.1", "mailbox": "b"}]}, "and mailbox"),
        ({"archive_services": [{"account": "a", "address": "192.0.2.1/24"}]}, "neither an address nor a"),
        ({"archive_services": [{"account": "a", "address": "0.0.0.0/0"}]}, "holds every address"),
        ({"archive_services": [{"account": "a", "address": "::/3"}]}, "holds every address"),
        ({"archive_services": [{"account": "a", "address": "::ffff:192.0.2.1"}]}, "write it as IPv4"),
        ({"archive_services": [{"account": [], "address": "192.0.2.1"}]}, "account has no value"),
        ({"archive_services": [{"account": " ", "address": "192.0.2.1"}]}, "a value that is not text"),
        ({"archive_services": [{"account": True, "address": "192.0.2.1"}]}, "a value that is not text"),
        ({"server_migrations": [{"account": "a", "share": "m"}]}, "not the share of a server; write"),
        ({"server_migrations": [{"account": "a", "share": "\\\\fs01"}]}, "not the share of a server"),
        ({"server_migrations": [{"account": "a", "share": "c:\\mig\\x"}]}, "not the share of a server"),
        ({"server_migrations": [{"account": "a", "share": "\\\\fs01\\mig\\..\\x"}]}, "not the share of"),
        ({"server_migrations": [{"account": "a", "share": '\\\\fs01\\mig" -x'}]}, "not the share of a"),
        ({"investigators": [{}]}, "states nothing; state account; or account and case; or"),
        ({"investigators": [{"account": f"a{n}"} for n in range(1001)]}, "more than 1,000 rows"),
        (["archive_services"], "is not a mapping of lists"),
    ],
)
def test_what_is_wrong_is_said(stated: Any, said: str, tmp_path: Path) -> None:
    path = site_of(tmp_path, stated)
    with pytest.raises(PackError) as raised:
        load_site(path, LISTS)
    assert said in "\n".join(map(str, raised.value.findings))
    assert all(finding.path == str(path) for finding in raised.value.findings)


def test_every_filter_names_rules_of_its_log_source(pack: Pack) -> None:
    known = {str(d.data.get("name")): d for rule in pack.rules for d in rule.documents}
    for filters in LISTS.values():
        for one in filters:
            assert set(one.rules) <= known.keys()
            assert all(one.filter.covers(known[name]) for name in one.rules)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row: {UserId|expand: '%a%'}\n  condition: row", "is not a filter of a list"),
        ("row: {UserId|expand: 'x%a%'}\n  condition: not row", "not one placeholder"),
        ("row: {UserId|expand: '%a%', AppId|expand: '%a%'}\n  condition: not row", "one parameter twice"),
        ("row: {UserId|contian: a}\n  condition: not row", "contian"),
        ("other: {UserId: a}\n  condition: not other", "is not a filter of a list"),
    ],
)
def test_a_faulty_filter_is_refused(text: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "sigma" / "filters"
    folder.mkdir(parents=True)
    head = "title: T\nlogsource: {product: m365}\nfilter:\n  rules: [a_rule]\n  "
    (folder / "some_list.yml").write_text(head + text, encoding="utf-8")
    with pytest.raises(PackError, match=said):
        load_list_filters(tmp_path)


# ---- the command line ------------------------------------------------------------------------------------
def mail_of(account: str, address: str, number: int) -> dict[str, Any]:
    return {
        "Id": f"e{number}",
        "CreationTime": f"2026-03-11T10:{number:02d}:00",
        "RecordType": 2,
        "Operation": "Create",
        "Workload": "Exchange",
        "UserId": account,
        "ClientIPAddress": address,
        "ClientIP": address,
        "ClientInfoString": "Client=WebServices;python-requests/2.31;",
    }


def test_a_replay_shows_what_each_list_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    known = "svc-archive@contoso.example"
    records = [mail_of(known, "198.51.100.11", 1), mail_of(known, "203.0.113.9", 2)]
    records += [mail_of("eve@contoso.example", "198.51.100.11", 3)]
    log.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    path = site_of(
        tmp_path,
        {
            "archive_services": [{"account": known, "address": "198.51.100.0/28", "reason": "ticket 4711"}],
            "scripted_clients": [
                {
                    "account": "EVE@contoso.example",
                    "address": "198.51.100.11",
                    "agent": "Client=WebServices;python-requests/2.31;",
                }
            ],
            "investigators": [{"account": known}],
        },
    )
    asked = ["replay", str(log), "--rule", "suspicious_ews_client", "--site", str(path), "--format", "json"]
    assert main(["--root", str(ROOT), *asked]) == 0
    [rule] = json.loads(capsys.readouterr().out)["rules"]
    assert rule["hits"] == 3
    assert rule["lists"] == {
        "archive_services": {"hits": 2},
        "scripted_clients": {"hits": 2},
        "all lists": {"hits": 1},
    }
    assert main(["--root", str(ROOT), *asked[:-2]]) == 0
    assert "left by archive_services" in capsys.readouterr().out


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = site_of(tmp_path, {"nothing": []})
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "build", "--site", str(path)])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "build", "--site", str(path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and 'no list is called "nothing"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_lists_are_kept_by_an_option_of_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be a list is said: once of a platform, and of a list that one rule asks in another way."""
    path, out = site_of(tmp_path, {"server_migrations": [], "provisioning": []}), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "build", "--lists", "--out", str(out)])
    assert ended.value.code == 2 and "--site" in capsys.readouterr().err and not out.exists()
    assert main(["--root", str(ROOT), "build", "--site", str(path), "--lists", "--out", str(out)]) == 0
    said = capsys.readouterr().err.splitlines()
    about = [line for line in said if "has no lists of its own" in line]
    assert sorted(line.split(" has ")[0] for line in about) == [
        "--lists:1: warning: Elastic",
        "--lists:1: warning: Microsoft Defender XDR",
    ]
    assert any("server_migrations" in line and "for exchange_server_export:" in line for line in said)
    assert not any("provisioning" in line for line in said)
    # An empty list that stands in a query is no condition of it.
    for ending in ("kql", "spl"):
        [own] = out.glob(f"{'s*l' if ending == 'kql' else 'splunk'}/queries/exchange_server_export.{ending}")
        shipped = ROOT / "dist" / own.relative_to(out)
        assert own.read_bytes() == shipped.read_bytes()


def test_no_list_can_be_exceptions_of_kibana(pack: Pack) -> None:
    """They tell letter case apart. Where no column of a list has letters to tell apart, it could be one."""
    for filters in LISTS.values():
        for one in (one for one in filters if one.parameters):
            named = {str(d.data.get("name")): rule for rule in pack.rules for d in rule.documents}
            first = named[one.rules[0]]
            pipeline = pack.pipelines["elastic"]
            if pipeline.absence(first) is not None:
                continue
            exact = platform("elastic").convert(first, pipeline).state.get("exact_fields") or ()  # type: ignore[attr-defined]
            keys = [key.split("|")[0] for key, name in one.parameters.items() if name != "address"]
            assert keys and not {pipeline.map_field(first, key) for key in keys} & set(exact)

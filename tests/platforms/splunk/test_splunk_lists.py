"""The trap: a lookup that leaves out more than its rows say, or that an update puts back to what was built.

What people put into the files of lists is put in here, near misses and half rows too, and both readings of
SPL must keep the same results.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import make
from detection_pack.languages.conf import read_conf
from detection_pack.languages.spl.spl_steps import Lookup
from detection_pack.model.event import Event
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.site_lists import load_list_filters, load_site
from detection_pack.platforms.splunk.app import allowlist, open_app
from detection_pack.platforms.splunk.imports import SplunkImports
from detection_pack.platforms.splunk.lists import LISTS_APP
from support.sources import M365, PROCESS
from support.spl import Table
from support.spl_agreement import Agreement, Bench, Search, searches_of

RULES = ("suspicious_ews_client", "onprem_powershell_collection", "account_reads_many_mailboxes")
NOW = datetime(2026, 3, 10, 18, 0, tzinfo=UTC)
WINDOW = (datetime(2026, 3, 1, tzinfo=UTC), NOW)
#: The table of a list, as a lookup.
ARCHIVE = "remote_email_collection_archive_services"
JOBS = "remote_email_collection_scheduled_jobs_by_account_and_host"
#: What somebody has put into the list, and the events that stay.
ROWS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "nothing": ([], "abcdef"),
    "a network, whatever the letters": ([("SVC@X.example", "198.51.100.0/24")], "cdef"),
    "one address": ([("svc@x.example", "198.51.100.7/32")], "bcdef"),
    "the account alone": ([("svc@x.example", "203.0.113.0/24")], "abdef"),
    "the address alone": ([("other@x.example", "198.51.100.0/24")], "abcdef"),
    "IPv6": ([("svc@x.example", "2001:db8::/32")], "abcef"),
    "no wildcard": ([("svc*", "198.51.100.0/24")], "abcdef"),
    "a part": ([("svc", "198.51.100.0/24")], "abcdef"),
    "an empty address": ([("svc@x.example", "")], "abcdef"),
    "an empty account": ([("", "198.51.100.0/24")], "abcdef"),
    "empty cells alone": ([("", "")], "abcdef"),
    "no network": ([("svc@x.example", "198.51.100.999")], "abcdef"),
    "two rows": ([("svc@x.example", "203.0.113.0/24"), ("svc@x.example", "198.51.100.8/32")], "adef"),
}


def mail(name: str, account: str | None, address: str | None) -> Event:
    record: dict[str, Any] = {
        "Id": name,
        "CreationTime": "2026-03-10T17:00:00",
        "RecordType": 2,
        "Operation": "Create",
        "Workload": "Exchange",
        "ClientInfoString": "Client=WebServices;python-requests/2.31;",
    }
    found = {"UserId": account, "ClientIPAddress": address, "ClientIP": address}
    return Event(name, M365, record | {key: value for key, value in found.items() if value is not None})


def started(name: str, user: str, host: str) -> Event:
    record = {
        "User": user,
        "Computer": host,
        "CommandLine": "powershell.exe New-MailboxExportRequest -Mailbox a",
    }
    image = "C:\\Windows\\powershell.exe"
    return Event(name, PROCESS, {**record, "Image": image, "UtcTime": "2026-03-10 17:00:00.000"})


MAILS = (
    mail("a", "svc@x.example", "198.51.100.7"),
    mail("b", "Svc@x.example", "198.51.100.8"),
    mail("c", "svc@x.example", "203.0.113.9"),
    mail("d", "svc@x.example", "2001:db8:1::5"),
    mail("e", "svc@x.example", None),
    mail("f", None, "198.51.100.7"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    return built(tmp_path_factory.mktemp("site"), "archive_services: []\nscheduled_jobs:\n")


def built(folder: Path, stated: str) -> Mapping[str, bytes]:
    (folder / "site.yml").write_text(stated, encoding="utf-8")
    pack = few(load_pack(ROOT))
    return make(pack, site=load_site(folder / "site.yml", load_list_filters(ROOT))).files


def few(pack: Pack) -> Pack:
    return replace(pack, rules=tuple(rule for rule in pack.rules if rule.name in RULES))


def with_rows(files: Mapping[str, bytes], **rows: Sequence[Mapping[str, str]]) -> list[Search]:
    """The searches, with these rows put into their lists."""
    found = []
    for search in searches_of(files, "40d"):
        tables = dict(search.tables)
        for name, listed in rows.items():
            tables[name] = replace(tables[name], rows=listed)
        found.append(replace(search, tables=tables))
    return found


def left(searches: Sequence[Search], rule: str, bench: Bench) -> set[str]:
    """The events that the forms of a rule find, each of which must find the same, in both readings."""
    agreement, kept = Agreement(), set()
    for search in searches:
        if search.name.rpartition("/")[2].split(".")[0] == rule:
            bench.compare(search, agreement)
            rows = bench.workspace.search(search.text, search.macros, NOW, WINDOW, lookups(search))
            kept.add(frozenset(event for row in rows for event in row.events))
    assert agreement.searched and not agreement.disagreements and not agreement.refused
    [same] = kept
    return set(same)


def lookups(search: Search) -> dict[str, Lookup]:
    return {name: Lookup(list(t.rows), t.cased, tuple(t.networks)) for name, t in search.tables.items()}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(MAILS, NOW)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_somebody_puts_in_leaves_out_what_it_says(
    name: str, files: Mapping[str, bytes], bench: Bench
) -> None:
    rows, wanted = ROWS[name]
    listed = [{"account": account, "address": address, "reason": ""} for account, address in rows]
    assert left(with_rows(files, **{ARCHIVE: listed}), "suspicious_ews_client", bench) == set(wanted)


def test_every_form_of_a_rule_asks_the_list(files: Mapping[str, bytes]) -> None:
    bench = Bench([started("p", "CONTOSO\\job", "SRV1"), started("q", "CONTOSO\\job", "SRV2")], NOW)
    for host, wanted in (("srv1", {"q"}), ("srv", {"p", "q"}), ("", {"p", "q"})):
        searches = with_rows(files, **{JOBS: [{"account": "JOB", "host": host, "reason": "backup"}]})
        assert left(searches, "onprem_powershell_collection", bench) == wanted
    forms = [search.name for search in searches if "onprem_powershell_collection" in search.name]
    assert len(forms) == 6


def test_the_file_has_the_rows_of_the_site_and_is_an_app_of_its_own(tmp_path: Path) -> None:
    """An update of the searches brings no row, and one that people put in stays."""
    row = '- {account: "=svc, \\"x\\"", address: [198.51.100.7, "2001:db8::/32"], reason: "two\\nlines"}'
    files = built(tmp_path, f"archive_services:\n  {row}\n")
    [lists] = (content for path, content in files.items() if f"/{LISTS_APP}-" in path)
    [searches] = (c for path, c in files.items() if path.endswith(".tgz") and f"/{LISTS_APP}-" not in path)
    inside, beside = members(lists), members(searches)
    assert list(csv.reader(io.StringIO(inside[f"lookups/{ARCHIVE}.csv"]))) == [
        ["account", "address", "reason"],
        ['=svc, "x"', "198.51.100.7/32", "two lines"],
        ['=svc, "x"', "2001:db8::/32", "two lines"],
    ]
    assert read_conf(inside["default/transforms.conf"])[ARCHIVE] == {
        "filename": f"{ARCHIVE}.csv",
        "case_sensitive_match": "false",
        "max_matches": "1",
        "match_type": "CIDR(address)",
    }
    assert set(read_conf(inside["metadata/default.meta"])) == {"", "lookups", "transforms"}
    assert not any(ARCHIVE in path for path in beside)
    assert ARCHIVE in beside["default/savedsearches.conf"]


def test_a_folder_with_both_apps_is_read_as_splunk_loads_it(
    files: Mapping[str, bytes], tmp_path: Path
) -> None:
    """The searches with the lookups of both, and the schedules of the searches whatever sorts first."""
    for path, content in files.items():
        if path.endswith(".tgz"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
    app = open_app(tmp_path)
    assert LISTS_APP not in app.path and {ARCHIVE, JOBS, allowlist()} == set(app.lookups)
    [searches] = (path for path in files if path.endswith(".tgz") and LISTS_APP not in path)
    renamed = {path.replace(searches, "splunk/zoo-1.0.0.tgz"): content for path, content in files.items()}
    assert SplunkImports(renamed).schedules("suspicious_ews_client")


def members(archive: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        found = ((member.name, opened.extractfile(member)) for member in opened if member.isfile())
        return {name.partition("/")[2]: file.read().decode() for name, file in found if file is not None}


def test_what_is_built_without_lists_names_none(files: Mapping[str, bytes]) -> None:
    assert any(b"_listed_" in content for path, content in files.items() if path.endswith(".spl"))
    shipped = [path for path in DIST.rglob("*") if path.is_file()]
    assert not [path for path in shipped if LISTS_APP in path.name or b"_listed_" in path.read_bytes()]


def test_a_table_of_the_interpreter_knows_its_networks(files: Mapping[str, bytes]) -> None:
    [tables] = {id(search.tables): search.tables for search in searches_of(files)}.values()
    assert tables[ARCHIVE] == Table([], cased=False, networks=frozenset({"address"}))
    assert tables[JOBS] == Table([], cased=False)

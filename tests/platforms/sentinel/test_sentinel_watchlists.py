"""The trap: a rule that fails because a watchlist is empty or missing, and a template that lays a list over
one that people keep.

What people put into the watchlists is put in here, near misses and half rows too; Microsoft's parser reads
every query that asks one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import make
from detection_pack.model.event import Clock, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.pack import load_pack
from detection_pack.model.site_lists import load_list_filters, load_site
from detection_pack.platforms.kusto.run import Workspace, verdicts
from detection_pack.platforms.kusto.watchlist_file import WATCHLISTS, Watchlist
from judges import kql_judge, require
from platforms.splunk.test_splunk_lists import MAILS, ROWS
from support.sources import SENTINEL_TABLES

LISTS = load_list_filters(ROOT)
CLOCK = Clock(datetime(2026, 3, 10, 18, 0, tzinfo=UTC))
ARCHIVE = "remote_email_collection_archive_services"
RULE = RuleEntry("suspicious_ews_client", (), None, (), "core")
FUNCTION = {
    "_GetWatchlist": "(alias: string) { datatable(SearchKey: string, LastUpdatedTimeUTC: datetime)[] }"
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The whole pack with every list, none of which has a row."""
    return built(tmp_path_factory.mktemp("site"), json.dumps(dict.fromkeys(LISTS)))


def built(folder: Path, stated: str, *rules: str) -> Mapping[str, bytes]:
    (folder / "site.yml").write_text(stated, encoding="utf-8")
    pack = load_pack(ROOT)
    if rules:
        pack = replace(pack, rules=tuple(map(pack.rule, rules)))
    return make(pack, site=load_site(folder / "site.yml", LISTS)).files


def empty(files: Mapping[str, bytes]) -> dict[str, Watchlist]:
    listed = json.loads(files[WATCHLISTS])["resources"]
    return {one["properties"]["displayName"]: Watchlist((), "", ()) for one in listed}


def left(files: Mapping[str, bytes], watchlists: Mapping[str, Watchlist]) -> set[str]:
    workspace = Workspace(MAILS, watchlists=watchlists)
    path = f"sentinel/queries/{RULE.name}.kql"
    [hit] = verdicts(workspace, files[path].decode(), RULE, CLOCK, path)
    return set(hit.events)


@pytest.mark.parametrize("name", ROWS)
def test_an_item_that_somebody_puts_in_leaves_out_what_it_says(name: str, files: Mapping[str, bytes]) -> None:
    rows, wanted = ROWS[name]
    items = [{"account": account, "address": address} for account, address in rows]
    watchlist = Watchlist(("account", "address", "reason"), "account", items)
    assert left(files, {**empty(files), ARCHIVE: watchlist}) == set(wanted)


def test_a_column_with_another_name_leaves_out_nothing(files: Mapping[str, bytes]) -> None:
    watchlist = Watchlist(("user", "address"), "user", [{"user": "svc@x.example", "address": "198.51.100.7"}])
    assert left(files, {**empty(files), ARCHIVE: watchlist}) == {event.id for event in MAILS}


def test_a_watchlist_that_is_missing_is_an_error_as_in_sentinel(files: Mapping[str, bytes]) -> None:
    with pytest.raises(PackError, match=f"no watchlist has the alias {ARCHIVE}"):
        left(files, {alias: one for alias, one in empty(files).items() if alias != ARCHIVE})


def test_microsofts_parser_reads_every_query_that_asks_a_list(files: Mapping[str, bytes]) -> None:
    require(kql_judge.available())
    queries = {path: text.decode() for path, text in files.items() if path.endswith(".kql")}
    asking = {
        path: text
        for path, text in queries.items()
        if path.startswith("sentinel/") and "_GetWatchlist(" in text
    }
    analysed = kql_judge.analyze(SENTINEL_TABLES, asking, FUNCTION)
    assert len(asking) > 20
    assert {name: found.diagnostics for name, found in analysed.items() if found.diagnostics} == {}


def test_every_alias_that_a_rule_names_is_made_and_no_other(files: Mapping[str, bytes]) -> None:
    texts = [
        text.decode() for path, text in files.items() if path.startswith("sentinel/") and path != WATCHLISTS
    ]
    named = {part.split('"')[0].rstrip("\\") for text in texts for part in text.split('_GetWatchlist("')[1:]}
    named |= {part.split('\\"')[0] for text in texts for part in text.split('_GetWatchlist(\\"')[1:]}
    assert named == set(empty(files))
    # What the service takes for an alias.
    assert all(3 <= len(alias) <= 64 for alias in named)


def test_the_template_makes_only_what_it_is_told_to(tmp_path: Path) -> None:
    row = '- {account: "[svc], \\"x\\"", address: 198.51.100.7, reason: "two\\nlines"}'
    files = built(tmp_path, f"archive_services:\n  {row}\ninvestigators:\n", RULE.name, "ediscovery_export")
    template = json.loads(files[WATCHLISTS])
    assert template["parameters"]["create"]["defaultValue"] == []
    rows, none = template["resources"]
    for one, alias in ((rows, ARCHIVE), (none, "remote_email_collection_investigators_by_account_and_case")):
        assert one["condition"] == f"[contains(parameters('create'), '{alias}')]"
        assert one["name"] == f"[concat(parameters('workspace'),'/Microsoft.SecurityInsights/{alias}')]"
    assert rows["properties"]["rawContent"] == (
        'account,address,reason\n"[svc], ""x""",198.51.100.7/32,two lines\n'
    )
    assert (rows["properties"]["itemsSearchKey"], rows["properties"]["contentType"]) == (
        "account",
        "text/csv",
    )
    assert "rawContent" not in none["properties"]
    # The rules come in templates that hold no list.
    assert not any(b"providers/watchlists" in text for path, text in files.items() if path != WATCHLISTS)


def test_what_is_built_without_lists_names_none() -> None:
    shipped = [path for path in DIST.rglob("*") if path.is_file()]
    assert shipped and not [path for path in shipped if b"_GetWatchlist" in path.read_bytes()]

"""The trap: a dist/ of somebody else, whose queries read a file of the person who replays it.

DuckDB takes a table's name for a file's. Each artefact that holds a query is replaced by one that names a
file, in every way that its language or DuckDB's has; the replay must refuse it, and nothing of the file may
come out, be it as a hit, in a message or in another file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import DIST, ROOT
from detection_pack.cli import main
from support.checkout import tree

RULE, BULK = "exchange_admin_cmdlet", "bulk_cross_mailbox_access"
HUNT = "mail_folder_synchronised_by_app"
SECRET = "Zq7-content-of-a-private-file"
RECORD = {
    "CreationTime": "2026-11-01T10:00:00",
    "Id": "x1",
    "Operation": "New-MailboxExportRequest",
    "RecordType": 1,
    "UserId": "u@x.com",
    "Workload": "Exchange",
}

_KQL_TAIL = "\n| extend _EventId = tostring(a), TimeGenerated = now()\n| project TimeGenerated, a\n"
KQL = {
    "table": "['{path}']",
    "table function": 'table("{path}")',
    "external data": 'externaldata(a: string) ["{path}"]',
    "SQL in a name": "['x\" UNION ALL SELECT * FROM read_csv(''{path}'') --']",
    "SQL function": "read_csv_auto('{path}')",
    "text function": "print a = read_text('{path}')",
    "subquery": "union ['{path}'], CloudAppEvents",
    "join": "OfficeActivity | join kind=leftouter (['{path}']) on $left.UserId == $right.a",
}
SPL = {
    "lookup": "| inputlookup {path}",
    "lookup of fields": "`o365_management_activity` | lookup {path} a OUTPUT b",
    "data set": '| tstats count FROM datamodel="{path}" BY a',
    "data model": '| from datamodel:"{path}"',
    "index": 'index="{path}"',
    "sub-search": "`o365_management_activity` [| inputlookup {path}]",
    "eval": "`o365_management_activity` | eval a=read_text('{path}')",
    "SQL in a field": "`o365_management_activity` "
    "| eval a='x\" || (SELECT content FROM read_text(''{path}'')) --'",
    "a field": "`o365_management_activity` | stats values('{path}') AS a BY UserId",
}
ESQL = {
    "index": 'FROM "{path}"',
    "index unquoted": "FROM {path}",
    "function": "FROM logs-o365.audit-* | EVAL a = read_text('{path}')",
    "enrich": "FROM logs-o365.audit-* | ENRICH {path} ON user.id",
    "lookup join": "FROM logs-o365.audit-* | LOOKUP JOIN {path} ON user.id",
    "field": 'FROM logs-o365.audit-* | WHERE `x" OR (SELECT content FROM read_text(\'{path}\')) --` == "a"',
}
LUCENE = {
    "field": "{path}:*",
    "SQL in a field": "x\\\"\\ UNION\\ SELECT\\ *\\ FROM\\ '{path}'\\ --:*",
    "SQL in a value": "user.id:\"x' OR content IN (SELECT content FROM read_text('{path}')) --\"",
    "expression": "user.id:/x') UNION SELECT content FROM read_text('{path}') --/",
}


def whole(text: str, _: str) -> str:
    return text


def of_yaml(text: str, old: str) -> str:
    return yaml.safe_dump({**yaml.safe_load(old), "query": text})


def of_template(text: str, old: str) -> str:
    document = json.loads(old)
    for resource in document["resources"]:
        resource["properties"]["query"] = text
    return json.dumps(document)


def of_rules(text: str, old: str) -> str:
    made = [json.loads(line) for line in old.splitlines() if line]
    return "\n".join(json.dumps({**rule, "query": text}) for rule in made) + "\n"


def of_sessions(text: str, old: str) -> str:
    made = [json.loads(line) for line in old.splitlines() if line]
    for one in (one for one in made if one.get("type") == "search"):
        about = one["attributes"]["kibanaSavedObjectMeta"]
        source = json.loads(about["searchSourceJSON"])
        if "esql" not in source["query"]:
            source["query"]["query"] = text
        about["searchSourceJSON"] = json.dumps(source)
    return "\n".join(json.dumps(one) for one in made) + "\n"


Attack = tuple[str, Callable[[str, str], str], str, str]
FORMS: tuple[tuple[str, Callable[[str, str], str], dict[str, str], str], ...] = (
    (f"sentinel/queries/{RULE}.kql", whole, KQL, _KQL_TAIL),
    (f"defender/queries/{RULE}.kql", whole, KQL, _KQL_TAIL),
    (f"splunk/queries/{RULE}.spl", whole, SPL, "\n"),
    (f"elastic/queries/{RULE}.lucene", whole, LUCENE, "\n"),
    (f"elastic/queries/{BULK}.esql", whole, ESQL, "\n"),
)
ATTACKS: dict[str, Attack] = {
    f"{path}: {how}": (path, write, text, tail)
    for path, write, texts, tail in FORMS
    for how, text in texts.items()
}
IMPORTED: dict[str, Attack] = {
    "analytics rule": (f"sentinel/analytics/{RULE}.yaml", of_yaml, KQL["table"], _KQL_TAIL),
    "template": ("sentinel/azuredeploy/Office365.json", of_template, KQL["table"], _KQL_TAIL),
    "Kibana rules": ("elastic/rules.ndjson", of_rules, LUCENE["SQL in a value"], ""),
    "hunting query": (f"sentinel/hunting/{HUNT}.yaml", of_yaml, KQL["table"], _KQL_TAIL),
    "saved searches": ("sentinel/hunting/azuredeploy.json", of_template, KQL["table"], _KQL_TAIL),
    "advanced hunting": (f"defender/hunting/{HUNT}.yaml", of_yaml, KQL["table"], _KQL_TAIL),
    "Discover sessions": ("elastic/hunting/hunts.ndjson", of_sessions, LUCENE["SQL in a value"], ""),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "private.csv"
    path.write_text(f"a,b\n{SECRET},{SECRET}\n", encoding="utf-8")
    return path


def poisoned(folder: Path, attack: Attack, secret: Path) -> Path:
    """A copy of dist/ with the attack in it, and a manifest that vouches for it."""
    path, write, text, tail = attack
    dist = folder / "dist"
    shutil.copytree(DIST, dist)
    target = dist / path
    query = text.replace("{path}", str(secret)) + tail
    target.write_text(write(query, target.read_text(encoding="utf-8")), encoding="utf-8")
    manifest: dict[str, Any] = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    for artefact in [*manifest["artefacts"], *(a for r in manifest["rules"] for a in r["artefacts"])]:
        if artefact["path"] == path:
            artefact["sha256"] = hashlib.sha256(target.read_bytes()).hexdigest()
    (dist / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return dist


def replayed(dist: Path, attack: Attack, *logs: str) -> int:
    rule = HUNT if "/hunting/" in attack[0] else BULK if BULK in attack[0] else RULE
    chosen = ["--rule", rule, "--platform", attack[0].partition("/")[0], "--format", "json"]
    return main(["--root", str(ROOT), "replay", "--dist", str(dist), *chosen, *logs])


@pytest.mark.parametrize("name", ATTACKS)
def test_no_query_reads_a_file(
    name: str, tmp_path: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dist = poisoned(tmp_path, ATTACKS[name], secret)
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(RECORD) + "\n", encoding="utf-8")
    before = tree(tmp_path)
    code = replayed(dist, ATTACKS[name], str(log))
    out, err = capsys.readouterr()
    assert SECRET not in out + err and "internal error" not in err
    assert tree(tmp_path) == before
    answer = json.loads(out)
    refused = [told for rule in answer["rules"] for told in rule["platforms"].values() if "refused" in told]
    assert answer["hits"] == []
    if code == 0:  # A text to search for is no way to a file: nothing is found, and nothing may be.
        assert not refused
        assert "lucene" in name or "SPL" in name or ".spl" in name or "esql: field" in name
    else:
        said = [line for line in err.splitlines() if not line.startswith("read: ")]
        assert code == 2 and len(refused) == 1 and len(said) == 1


@pytest.mark.parametrize("name", IMPORTED)
def test_nothing_that_is_imported_reads_a_file(
    name: str, tmp_path: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dist = poisoned(tmp_path, IMPORTED[name], secret)
    assert replayed(dist, IMPORTED[name]) == 1
    out, err = capsys.readouterr()
    assert err and SECRET not in out + err and "internal error" not in err

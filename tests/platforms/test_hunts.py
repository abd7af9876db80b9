"""The trap: a hunt that becomes an alert, and one that a hunter imports and that then finds something else.

Each rule of sigma/hunting stands, on each platform that has its data, in the form that hunters import there,
and in nothing that runs by itself. What is imported is read back as the product reads it; its texts are the
rule's, whatever they look like; Microsoft's parser reads the KQL. That it finds what the plain query finds is
what `replay` checks: here a hunt that was tampered with must be noticed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from agreement.test_kql_judged import complaints
from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.languages.conf import read_conf
from detection_pack.model.pack import Pack
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.platforms.elastic.hunts import HUNTS, load_hunts
from detection_pack.platforms.elastic.imports import load_rules, name_of
from detection_pack.platforms.kusto.attack import service_attack, service_tactics
from detection_pack.platforms.kusto.hunting import summary
from detection_pack.platforms.platform import platforms
from detection_pack.platforms.sentinel.hunting import TEMPLATE, saved_searches
from detection_pack.platforms.sentinel.imports import deployed_rules
from detection_pack.platforms.splunk.app import open_app
from detection_pack.replay.verdict import all_cases, execute, judge
from judges import kql_judge, require
from platforms.splunk.test_splunk_app import packed_bytes
from support.hostile_rules import FOLDER as HOSTILE
from support.rules import given
from support.sources import DEFENDER_TABLES

SCHEMA = json.loads((ROOT / "tests" / "data" / "kibana_discover_schema.json").read_text(encoding="utf-8"))
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: Every key of the repository's form that the pack writes. Some hunts have no entity, short ones no detail.
KEYS = {"id", "name", "description", "description-detailed", "requiredDataConnectors", "tactics", "version"}
KEYS |= {"relevantTechniques", "query", "entityMappings", "metadata"}


def hunts(pack: Pack, platform: str) -> list[Rule]:
    return [rule for rule in given(pack, platform) if rule.tier in BY_HAND]


def files(platform: str) -> dict[str, dict[str, Any]]:
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted(DIST.glob(f"{platform}/hunting/*.yaml"))
    }


def objects() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DIST / HUNTS).read_text(encoding="utf-8").splitlines()]


# ---- a hunt is a hunt, and nothing else -------------------------------------------------------------------


def test_there_are_ten_hunts_at_least(pack: Pack) -> None:
    assert len([rule for rule in pack.rules if rule.tier in BY_HAND]) >= 10


def test_no_hunt_is_an_alert_anywhere(pack: Pack) -> None:
    hunting = {rule.name: rule for rule in pack.rules if rule.tier in BY_HAND}
    assert not {path.stem for path in DIST.glob("sentinel/analytics/*.yaml")} & hunting.keys()
    assert not set(deployed_rules(DIST)) & {rule.id for rule in hunting.values()}
    assert not {name_of(rule) for rule in load_rules(DIST)} & hunting.keys()
    assert not {p.name.split(".")[0] for p in DIST.glob("elastic/queries/*.threshold.json")} & hunting.keys()
    for name, settings in open_app(DIST).saved_searches.items():
        if name.partition(".")[0] in hunting:
            assert settings["enableSched"] == "0" and settings["is_visible"] == "1", name
            assert not [key for key in settings if key.startswith(("action.", "alert.", "cron_"))], name
            assert not {"counttype", "relation", "quantity"} & settings.keys(), name


def test_every_hunt_is_imported_where_there_is_its_data(pack: Pack) -> None:
    for platform in ("sentinel", "defender"):
        assert set(files(platform)) == {rule.name for rule in hunts(pack, platform)}, platform
    assert set(saved_searches(DIST)) == {rule.id for rule in hunts(pack, "sentinel")}
    assert {name_of(hunt) for hunt in load_hunts(DIST)} == {rule.name for rule in hunts(pack, "elastic")}
    assert set(open_app(DIST).saved_searches) >= {rule.name for rule in hunts(pack, "splunk")}
    listed = json.loads((DIST / "manifest.json").read_text(encoding="utf-8"))
    assert {TEMPLATE, HUNTS} <= {artefact["path"] for artefact in listed["artefacts"]}
    for platform in ("sentinel", "defender"):
        for rule in hunts(pack, platform):
            [entry] = (one for one in listed["rules"] if one["name"] == rule.name)
            assert f"{platform}/hunting/{rule.name}.yaml" in {one["path"] for one in entry["artefacts"]}


# ---- the files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["sentinel", "defender"])
def test_a_file_is_as_the_azure_sentinel_repository_takes_it(platform: str, pack: Pack) -> None:
    """Its ``.github/instructions/huntingqueries.instructions.md``."""
    found = files(platform)
    for name, document in found.items():
        rule = pack.rule(name)
        assert document.keys() <= KEYS, name
        assert KEYS - document.keys() <= {"entityMappings", "description-detailed"}, name
        assert GUID.fullmatch(document["id"]) and document["name"] == rule.title
        assert len(document["name"]) <= 100 and not document["name"].endswith(".")
        assert 1 <= len(document["description"]) <= 255
        whole = " ".join(str(rule.main.data["description"]).split())
        assert whole.startswith(document["description"])
        detailed = document.get("description-detailed", document["description"])
        assert detailed.split("\n")[0] == whole
        assert document["requiredDataConnectors"] or "graph" in name, name
        for connector in document["requiredDataConnectors"]:
            assert connector.keys() == {"connectorId", "dataTypes"} and connector["dataTypes"]
        assert 1 <= len(document["tactics"]) <= 5 and set(document["tactics"]) <= set(
            service_tactics().values()
        )
        assert document["relevantTechniques"] == list(service_attack(rule).techniques)
        assert 1 <= len(document["relevantTechniques"]) <= 10
        assert all(re.fullmatch(r"T\d{4}(\.\d{3})?", one) for one in document["relevantTechniques"])
        assert len(document["query"]) <= 10_000
        for entity in document.get("entityMappings", ()):
            assert 1 <= len(entity["fieldMappings"]) <= 3
        assert re.fullmatch(r"\d+\.\d+\.\d+", document["version"])
    assert len({document["id"] for document in found.values()}) == len(found)
    assert any("." in one for document in found.values() for one in document["relevantTechniques"])


def test_a_saved_search_says_what_the_file_says() -> None:
    deployed = saved_searches(DIST)
    for document in files("sentinel").values():
        properties = deployed[document["id"]]
        assert set(properties) == {"etag", "category", "displayName", "query", "version", "tags"}
        assert (properties["category"], properties["version"]) == ("Hunting Queries", 2)
        assert (properties["displayName"], properties["query"]) == (document["name"], document["query"])
        tags = {tag["name"]: tag["value"] for tag in properties["tags"]}
        assert tags["description"] == document["description"]
        assert tags["tactics"].split(",") == document["tactics"]
        techniques = document["relevantTechniques"]
        assert tags["techniques"].split(",") == list(dict.fromkeys(one[:5] for one in techniques))
        assert tags["subTechniques"].split(",") == [one for one in techniques if "." in one]
        assert all(len(value) <= 256 for value in tags.values()) and len(tags) <= 15


def test_entities_are_columns_of_the_result() -> None:
    """Sentinel reads a mapping off the names of columns of a saved query."""
    require(kql_judge.available())
    mapped = 0
    for name, document in files("sentinel").items():
        kinds: dict[str, int] = {}
        for entity in document.get("entityMappings", ()):
            kind = entity["entityType"]
            number = kinds.setdefault(kind, 0)
            kinds[kind] += 1
            for field in entity["fieldMappings"]:
                column = f"| extend {kind}_{number}_{field['identifier']} = {field['columnName']}\n"
                assert column in document["query"], name
                mapped += 1
    assert mapped > 5
    assert complaints({name: document["query"] for name, document in files("sentinel").items()}) == {}
    asked = {name: document["query"] for name, document in files("defender").items()}
    for name, analysis in kql_judge.analyze(DEFENDER_TABLES, asked).items():
        assert not analysis.diagnostics, (name, list(map(str, analysis.diagnostics)))


def test_only_the_name_of_a_saved_search_is_an_expression() -> None:
    template = json.loads((DIST / TEMPLATE).read_text(encoding="utf-8"))
    assert list(template["parameters"]) == ["workspace"]
    for resource in template["resources"]:
        assert resource.keys() == {"type", "apiVersion", "name", "properties"}
        assert resource["type"] == "Microsoft.OperationalInsights/workspaces/savedSearches"
        assert re.fullmatch(rf"\[concat\(parameters\('workspace'\),'/{GUID.pattern}'\)\]", resource["name"])


def test_defenders_file_and_query_are_one() -> None:
    for name, document in files("defender").items():
        assert document["query"] == (DIST / f"defender/queries/{name}.kql").read_text(encoding="utf-8")
        assert "//" not in document["query"].replace("://", "")
    assert not {d["id"] for d in files("defender").values()} & {d["id"] for d in files("sentinel").values()}


# ---- Elastic ----------------------------------------------------------------------------------------------


def test_every_line_is_a_saved_object_and_the_last_sums_up() -> None:
    *found, last = objects()
    validator = Draft202012Validator(SCHEMA)
    for one in found:
        assert [error.message for error in validator.iter_errors(one)] == [], one["id"]
    assert last["exportedCount"] == len(found) and last["missingReferences"] == []
    seen: set[tuple[str, str]] = set()
    for one in found:
        for reference in one["references"]:
            assert (reference["type"], reference["id"]) in seen, one["id"]
        seen.add((one["type"], one["id"]))
    assert len(seen) == len(found)


def test_the_schema_refuses_what_kibana_would() -> None:
    validator = Draft202012Validator(SCHEMA)
    session = next(one for one in objects() if one.get("type") == "search")
    for change in (
        {"sort": ["@timestamp"]},
        {"columns": "user.id"},
        {"timeRange": {"from": "24h", "to": "now"}},
    ):
        assert list(validator.iter_errors({**session, "attributes": {**session["attributes"], **change}}))
    for key in ("attributes", "typeMigrationVersion", "id"):
        assert list(validator.iter_errors({k: v for k, v in session.items() if k != key}))


def test_a_session_opens_on_the_rules_own_look_back_and_columns(pack: Pack) -> None:
    own = {name_of(hunt): hunt for hunt in load_hunts(DIST)}
    for rule in hunts(pack, "elastic"):
        assert own[rule.name]["from"] == f"now-{rule.lookback}"
        assert own[rule.name]["type"] == ("esql" if rule.correlation else "query")
        ending = "esql" if rule.correlation else "lucene"
        shipped = (DIST / f"elastic/queries/{rule.name}.{ending}").read_text(encoding="utf-8")
        assert own[rule.name]["query"].strip() == shipped.strip()


# ---- noticed ----------------------------------------------------------------------------------------------


def _yaml(text: str) -> str:
    document = yaml.safe_load(text)
    return yaml.safe_dump({**document, "query": document["query"].replace("MailItemsAccessed", "Create")})


def _plain(text: str) -> str:
    return text.replace("MailItemsAccessed", "Create").replace(
        "[Mm][Aa][Ii][Ll][Ii][Tt][Ee][Mm][Ss][Aa][Cc][Cc][Ee][Ss][Ss][Ee][Dd]", "[Cc][Rr][Ee][Aa][Tt][Ee]"
    )


NAME = "mail_folder_synchronised_by_app"
TAMPERED = {
    f"sentinel/hunting/{NAME}.yaml": _yaml,
    TEMPLATE: _plain,
    f"defender/hunting/{NAME}.yaml": _yaml,
    HUNTS: _plain,
}


@pytest.mark.parametrize("path", TAMPERED)
def test_a_hunt_that_finds_something_else_is_noticed(path: str, pack: Pack, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    shutil.copytree(DIST, dist)
    before = (dist / path).read_text(encoding="utf-8")
    (dist / path).write_text(TAMPERED[path](before), encoding="utf-8")
    assert (dist / path).read_text(encoding="utf-8") != before
    cases = all_cases(ROOT, [pack.rule(NAME)], pack.sources)
    platform = path.partition("/")[0]
    verdicts = judge(dist, cases, execute(dist, cases, [platform], pack.sources.values()))
    assert {verdict.artefact for verdict in verdicts if verdict.wrong} == {path}
    assert len(verdicts) >= 2


def test_a_hunt_that_is_missing_is_noticed(pack: Pack) -> None:
    entries = {entry.name: entry for entry in rule_entries(DIST)}
    listed = json.loads((DIST / "manifest.json").read_text(encoding="utf-8"))
    shared = [artefact["path"] for artefact in listed["artefacts"]]
    for here in platforms():
        for rule in hunts(pack, here.id):
            entry = entries[rule.name]
            wanted = here.must_run(entry, here.own(entry), [p for p in shared if p.startswith(here.id)])
            imported = [path for path in wanted if "/hunting/" in path or path.endswith(".tgz")]
            assert len(imported) == (2 if here.id == "sentinel" else 1), (here.id, rule.name)
            assert "elastic/rules.ndjson" not in wanted


# ---- other people's texts ---------------------------------------------------------------------------------


def told() -> dict[str, str]:
    """The titles and descriptions of hostile rules, by where they stand."""
    found: dict[str, str] = {}
    for path in sorted(
        path for kind in ("title_*", "arm_*", "mustache") for path in HOSTILE.glob(f"{kind}.yml")
    ):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            texts = {key: (document or {}).get(key) for key in ("title", "description")}
            found |= {f"{path.stem} {key}": text for key, text in texts.items() if isinstance(text, str)}
    return found


TEXTS = told() | {
    "an expression": "[concat('x')]",
    "a block": "a: |\n  b\n---\nquery: x",
    "a tag": "!!str x # y",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_a_rule_stays_text(name: str, pack: Pack) -> None:
    own = pack.rule(NAME)
    data = {**own.main.data, "title": TEXTS[name], "description": TEXTS[name], "author": TEXTS[name]}
    rule = replace(own, main=replace(own.main, data=data))
    for here in platforms():
        part = here.part(rule, pack.pipelines, pack.version)
        for artefact in [*part.artefacts, *here.assembled([part], pack.version)]:
            _stays(artefact.path, artefact.content, rule)


def _stays(path: str, content: bytes, rule: Rule) -> None:
    title = " ".join("".join(c if c.isprintable() else " " for c in rule.title).split()) or rule.name
    if path.endswith(".yaml"):
        [document] = yaml.safe_load_all(content.decode())
        assert document.keys() <= KEYS and document["name"] == title
        assert len(document["description"]) <= 255
    elif path.endswith("azuredeploy.json"):
        [resource] = json.loads(content)["resources"]
        expressions = [
            s for s in _strings(resource) if s.startswith("[") and s.endswith("]") and s[:2] != "[["
        ]
        assert expressions == [resource["name"]]
    elif path == HUNTS:
        *found, _ = map(json.loads, content.decode().splitlines())
        [session] = (one for one in found if one["type"] == "search")
        assert session["attributes"]["title"] == title
        assert session["attributes"]["description"].rpartition("\n")[2] == f"Sigma rule: {rule.name}"
    elif path.endswith(".tgz"):
        stanzas = read_conf(packed_bytes(content)["default/savedsearches.conf"])
        assert set(stanzas) >= {rule.name} and all(s["enableSched"] == "0" for s in stanzas.values())


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _strings(one)]


@pytest.mark.parametrize(
    ("text", "limit", "wanted"),
    [
        ("One. Two. Three.", 9, "One. Two."),
        ("One. Two. Three.", 8, "One."),
        ("One. Two. Three.", 99, "One. Two. Three."),
        ("no end at all", 99, "no end at all"),
        ("no end at all", 8, "no end…"),
        ("x" * 20, 5, "xxxx…"),
        ("Version 2.0 is out. It helps.", 20, "Version 2.0 is out."),
    ],
)
def test_a_summary_is_whole_sentences_where_they_fit(text: str, limit: int, wanted: str) -> None:
    assert summary(text, limit) == wanted

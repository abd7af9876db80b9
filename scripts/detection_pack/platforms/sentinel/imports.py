"""What people import into Microsoft Sentinel, read back: analytics rules and hunting queries, as YAML and in
ARM templates.

The queries are taken out of the shipped files as the portal takes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from detection_pack.model.event import Hit
from detection_pack.model.findings import PackError
from detection_pack.platforms.built_file import TODO, built_text
from detection_pack.platforms.kusto.hunting import hunting_file
from detection_pack.platforms.kusto.query import parameters
from detection_pack.platforms.kusto.watchlist_file import watchlists_in
from detection_pack.platforms.platform import ImportFiles, Run, Setting
from detection_pack.platforms.sentinel.alerting_query import SETTLE
from detection_pack.platforms.sentinel.arm import TEMPLATES, unescaped
from detection_pack.platforms.sentinel.hunting import HUNTS, TEMPLATE, saved_searches
from detection_pack.platforms.settings import chosen, decoded, readable

SENTINEL = "sentinel"
ANALYTICS = f"{SENTINEL}/analytics/"
QUERIES = f"{SENTINEL}/queries/"
#: Where the files of single rules are that are imported.
IMPORTED = (ANALYTICS, HUNTS)
#: What decides when an analytics rule runs, on what, and what becomes of a result. Prose is left out.
_SETTINGS = (
    "severity",
    "status",
    "queryFrequency",
    "queryPeriod",
    "triggerOperator",
    "triggerThreshold",
    "entityMappings",
    "eventGroupingSettings",
    "kind",
)


def run_imports(given: Run) -> list[Hit]:
    """Execute the analytics rules and hunting queries of these rules, as files and out of the templates.

    All events count as ingested since the run before. The artefact of a hit names the file that the query
    came from.
    """
    from detection_pack.platforms.kusto.run import Workspace, verdicts

    clock = given.clock
    ingested = clock.now - timedelta(seconds=SETTLE)
    watchlists = watchlists_in(given.dist)
    workspace = Workspace(given.events, ingested, sources=given.sources, watchlists=watchlists)
    deployed = deployed_rules(given.dist)
    hunts = any(path.startswith(HUNTS) for rule in given.rules for path in rule.artefacts)
    searches = saved_searches(given.dist) if hunts else {}
    hits: list[Hit] = []
    for rule in given.rules:
        for path in (path for path in rule.artefacts if path.startswith(ANALYTICS)):
            document = analytics_rule(given.dist / path)
            hits += verdicts(workspace, document["query"], rule, clock, path)
            template, properties = _deployed(given.dist, deployed, str(document["id"]))
            hits += verdicts(workspace, properties["query"], rule, clock, template)
        for path in (path for path in rule.artefacts if path.startswith(HUNTS)):
            document = hunting_file(given.dist / path)
            hits += verdicts(workspace, document["query"], rule, clock, path)
            if (identity := str(document["id"])) not in searches:
                raise PackError.at(given.dist / TEMPLATE, 1, f"lacks the hunt {identity}", TODO)
            hits += verdicts(workspace, searches[identity]["query"], rule, clock, TEMPLATE)
    return hits


def analytics_rule(path: Path) -> dict[str, Any]:
    """An analytics rule's file. Raises `PackError`."""
    try:
        document = yaml.safe_load(built_text(path))
    except yaml.YAMLError as error:
        raise PackError.at(path, 1, "is not YAML", "build dist/ again") from error
    if not isinstance(document, dict) or not {"id", "query"} <= document.keys():
        raise PackError.at(path, 1, "is not an analytics rule", "build dist/ again")
    return document


def deployed_rules(dist: Path) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """``{rule id: (template, properties)}`` of every template, as Resource Manager reads the properties."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    # Up to version 1.1 one template held every rule; a comparison still executes such a build.
    for path in sorted([*dist.glob(f"{TEMPLATES}/*.json"), *dist.glob(f"{TEMPLATES}*.json")]):
        try:
            resources = json.loads(built_text(path))["resources"]
            for resource in resources:
                identity = str(resource["name"]).removesuffix("')]").rpartition("/")[2]
                found[identity] = (path.relative_to(dist).as_posix(), unescaped(resource["properties"]))
        except (ValueError, KeyError, TypeError) as error:
            raise PackError.at(path, 1, f"is not a template of this pack ({error})", "build again") from error
    return found


def _deployed(
    dist: Path, deployed: Mapping[str, tuple[str, Mapping[str, Any]]], identity: str
) -> tuple[str, Mapping[str, Any]]:
    if identity not in deployed:
        raise PackError.at(dist / TEMPLATES, 1, f"lacks the rule {identity}", "build dist/ again")
    return deployed[identity]


class SentinelImports(ImportFiles):
    """The settings of the analytics rules, which a template repeats, and the parameters of the queries."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def schedules(self, rule: str) -> list[Setting]:
        path = f"{ANALYTICS}{rule}.yaml"
        if path not in self._files:
            return []
        with readable(path):
            stated = yaml.safe_load(decoded(self._files[path]))
            return chosen(SENTINEL, path, stated, _SETTINGS, "analytics rule")

    def parameters(self, rule: str) -> list[Setting]:
        path = f"{QUERIES}{rule}.kql"
        with readable(path):
            found = parameters(decoded(self._files.get(path, b"")))
        return [Setting(SENTINEL, path, name, value, "query") for name, value in found]

"""Run what people import: the queries of the analytics rules, of the ARM template and of the custom
detections, taken out of the shipped files as the portals take them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.sentinel.arm import unescaped
from detection_pack.platforms.sentinel.defender import DEFENDER
from detection_pack.platforms.sentinel.run import Workspace, verdicts
from detection_pack.platforms.sentinel.schedule import SETTLE

ANALYTICS, DETECTIONS, TEMPLATE = "sentinel/analytics", "defender", "sentinel/azuredeploy"


def run_imports(
    dist: Path,
    rules: Sequence[RuleEntry],
    events: Sequence[Event],
    clock: Clock,
    sources: Iterable[LogSource] | None = None,
) -> list[Hit]:
    """Execute every importable query that dist/manifest.json lists for these rules.

    All events count as ingested since the run before. Hits are as those of `engine.run`; their artefact names
    the file that the query came from. A rule of the hunting tier has none of these files.
    """
    arrivals = dict.fromkeys((event.id for event in events), clock.now - timedelta(seconds=SETTLE))
    workspace = Workspace(events, arrivals, sources=sources)
    hunting = Workspace(events, schema=DEFENDER, sources=sources)
    deployed = deployed_rules(dist)
    files = _files(dist)
    hits: list[Hit] = []
    for rule in rules:
        for path in files.get(rule.name, ()):
            if path.startswith(f"{DETECTIONS}/"):
                hits += verdicts(hunting, built_text(dist / path), rule, clock, path)
            elif path.startswith(f"{ANALYTICS}/"):
                document = analytics_rule(dist / path)
                hits += verdicts(workspace, document["query"], rule, clock, path)
                template, properties = _deployed(dist, deployed, str(document["id"]))
                hits += verdicts(workspace, properties["query"], rule, clock, template)
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
    folder, _, stem = TEMPLATE.rpartition("/")
    for path in sorted((dist / folder).glob(f"{stem}*.json")):
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
        raise PackError.at(dist / f"{TEMPLATE}.json", 1, f"lacks the rule {identity}", "build dist/ again")
    return deployed[identity]


def _files(dist: Path) -> dict[str, list[str]]:
    path = dist / "manifest.json"
    try:
        listed = json.loads(built_text(path))["rules"]
        return {rule["name"]: [artefact["path"] for artefact in rule["artefacts"]] for rule in listed}
    except (ValueError, KeyError, TypeError) as error:
        raise PackError.at(path, 1, "is not a manifest of this pack", "build dist/ again") from error

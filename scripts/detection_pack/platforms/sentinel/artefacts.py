"""The files of dist/sentinel/ and dist/defender/."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.languages.kql.kql_literals import kql_comment
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.sentinel.analytics import analytics_yaml, scheduled_rule
from detection_pack.platforms.sentinel.arm import resource, templates
from detection_pack.platforms.sentinel.backend import SentinelBackend
from detection_pack.platforms.sentinel.defender import DEFENDER, defender_query
from detection_pack.platforms.sentinel.query import LOOKBACK, SentinelQuery, conversion_of, query_from

PLATFORM = "sentinel"
UNION = f"{PLATFORM}/remote_email_collection.kql"


def part(rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
    """``queries/<name>.kql`` and, but for hunting, what the portals import: ``analytics/<name>.yaml``,
    Defender XDR's ``<name>.kql`` and the rule's resource of the ARM template. Raises `PackError`."""
    converted, knobs = conversion_of(rule, pipelines[PLATFORM], SentinelBackend)
    query = query_from(rule, converted, knobs)
    files = [Artefact(f"{PLATFORM}/queries/{rule.name}.kql", query.text().encode(), rule.name)]
    shared: dict[str, Any] = {"query": dataclasses.asdict(query)}
    claims: tuple[str, ...] = ()
    if rule.tier != "hunting":
        alerting = scheduled_rule(rule, pipelines[PLATFORM], version, converted)
        detection = defender_query(rule, pipelines[DEFENDER])
        files += [
            Artefact(f"{PLATFORM}/analytics/{rule.name}.yaml", analytics_yaml(alerting).encode(), rule.name),
            Artefact(f"{DEFENDER}/{rule.name}.kql", detection.encode(), rule.name),
        ]
        shared["resource"] = resource(alerting)
        claims = (alerting.id,)
    return Part(rule.name, rule.tier, tuple(files), shared, claims)


def assembled(parts: Sequence[Part], version: str) -> list[Artefact]:
    """The files of all rules: ``azuredeploy.json`` and the union of the core tier."""
    made = []
    resources = [one.shared["resource"] for one in parts if "resource" in one.shared]
    for number, template in enumerate(templates(resources, version), start=1):
        suffix = f"-{number}" if number > 1 else ""
        made.append(Artefact(f"{PLATFORM}/azuredeploy{suffix}.json", template.encode()))
    core = [SentinelQuery(**one.shared["query"]) for one in parts if one.tier == "core"]
    return [*made, Artefact(UNION, union(core).encode())] if core else made


def union(queries: Sequence[SentinelQuery]) -> str:
    """All rules in one query, newest first, with one look-back for all and each rule's own knobs."""
    tables = {query.table for query in queries}
    lookbacks = list(dict.fromkeys(query.lookback for query in queries))
    shared = len(lookbacks) == 1
    lines = [kql_comment("T1114.002 Remote Email Collection: every core rule, newest first")]
    if shared:
        lines.append(f"let {LOOKBACK} = {lookbacks[0]};")
    lines += [knob for query in queries for knob in query.knobs]
    branches: dict[str, SentinelQuery] = {}
    for query in queries:
        # A branch named as a table would read itself, and two names may differ in their underscores alone.
        name = query.identifier + ("Rule" if query.identifier in tables else "")
        branches[name if name not in branches else f"{name}_{len(branches)}"] = query
    for name, query in branches.items():
        body = query.body
        if not shared:
            lines.append(f"let {name}Lookback = {query.lookback};")
            # The time range stands before whatever a rule says.
            body = body.replace(f"ago({LOOKBACK})", f"ago({name}Lookback)", 1)
        lines += [kql_comment(query.title), f"let {name} = {body};"]
    lines += [f"union {', '.join(branches)}", "| sort by TimeGenerated desc"]
    return "\n".join(lines) + "\n"

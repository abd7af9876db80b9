"""Microsoft Sentinel: the files of dist/sentinel/, and what runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.languages.kql.kql_literals import kql_comment
from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.playbook import Kind
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.hunting import hunting_yaml
from detection_pack.platforms.kusto.query import LOOKBACK, SentinelQuery, conversion_of, query_from, query_of
from detection_pack.platforms.kusto.watchlist_file import WATCHLISTS
from detection_pack.platforms.platform import ImportFiles, Platform, QueryForm, Run, Sources, Stored
from detection_pack.platforms.sentinel import automation, hunting, imports
from detection_pack.platforms.sentinel.analytics import analytics_yaml, scheduled_rule
from detection_pack.platforms.sentinel.arm import resource, template, templates
from detection_pack.platforms.sentinel.watchlist_template import watchlist_template


class Sentinel(Platform):
    id = "sentinel"
    title = "Microsoft Sentinel"
    fence = "kusto"
    forms = (QueryForm(".kql", "KQL", "kusto"),)
    #: The core tier as one query.
    union = f"{id}/remote_email_collection.kql"

    def convert(self, rule: Rule, pipeline: Pipeline) -> SentinelQuery:
        return query_of(rule, pipeline)

    def made(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        """``queries/<name>.kql``; ``analytics/<name>.yaml`` or, of the hunting tier, ``hunting/<name>.yaml``;
        and the rule's resource of a template."""
        pipeline = pipelines[self.id]
        converted, lets = conversion_of(rule, pipeline, SentinelBackend)
        query = query_from(rule, converted, lets)
        files = [Artefact(f"{self.id}/queries/{rule.name}.kql", query.text().encode(), rule.name)]
        shared: dict[str, Any] = {"query": dataclasses.asdict(query)}
        shared["lists"] = {table.name: table for table in rule.lists.values()}
        if rule.tier in BY_HAND:
            hunt = hunting.hunting_query(rule, converted, lets, version)
            path = f"{hunting.HUNTS}{rule.name}.yaml"
            files.append(Artefact(path, hunting_yaml(hunt).encode(), rule.name))
            shared["hunt"] = hunting.resource(hunt)
            claims = (hunt.id,)
        else:
            alerting = scheduled_rule(rule, pipeline, version, converted)
            path = f"{imports.ANALYTICS}{rule.name}.yaml"
            files.append(Artefact(path, analytics_yaml(alerting).encode(), rule.name))
            filler = alerting.connectors[0][0] if alerting.connectors else query.table
            shared["resource"] = (filler, resource(alerting))
            if rule.guide is not None:
                shared["automation"] = (rule.guide.kind, alerting.id)
            claims = (alerting.id,)
        return Part(rule.name, rule.tier, tuple(files), shared, claims)

    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        """The templates of rules, hunting queries and automation rules, and the union of the core tier."""
        resources = [one.shared["resource"] for one in parts if "resource" in one.shared]
        made = [Artefact(path, text.encode()) for path, text in templates(resources, version).items()]
        hunts = [one.shared["hunt"] for one in parts if "hunt" in one.shared]
        if hunts:
            made.append(Artefact(hunting.TEMPLATE, template(hunts, version).encode()))
        kinds: dict[Kind, list[str]] = {}
        for kind, identity in (one.shared["automation"] for one in parts if "automation" in one.shared):
            kinds.setdefault(kind, []).append(identity)
        if kinds:
            made.append(Artefact(automation.PATH, automation.automation_template(kinds, version).encode()))
        if lists := {name: table for one in parts for name, table in one.shared["lists"].items()}:
            text = watchlist_template(lists.values(), version)
            made.append(Artefact(WATCHLISTS, text.encode()))
        core = [SentinelQuery(**one.shared["query"]) for one in parts if one.tier == "core"]
        return [*made, Artefact(self.union, union(core).encode())] if core else made

    def run(self, given: Run) -> list[Hit]:
        from detection_pack.platforms.kusto.run import run

        return run(given, self.id)

    def stored(self, events: Sequence[Event], sources: Sources | None = None) -> list[Stored]:
        from detection_pack.platforms.kusto.run import stored

        return stored(events, self.id, sources)

    def run_imports(self, given: Run) -> list[Hit]:
        return imports.run_imports(given)

    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        return imports.SentinelImports(files)

    def must_run(self, rule: RuleEntry, own: Sequence[str], shared: Sequence[str]) -> list[str]:
        """The templates of analytics rules hold each rule in one of them: that the right one holds it shows
        when it is run. All hunting queries stand in one."""
        listed = [*super().must_run(rule, own, shared), *(p for p in own if p.startswith(imports.IMPORTED))]
        hunts = any(path.startswith(hunting.HUNTS) for path in own)
        return [*listed, *(path for path in shared if path == hunting.TEMPLATE and hunts)]


def union(queries: Sequence[SentinelQuery]) -> str:
    """All rules in one query, newest first, with one look-back for all and each rule's own parameters."""
    tables = {query.table for query in queries}
    lookbacks = list(dict.fromkeys(query.lookback for query in queries))
    shared = len(lookbacks) == 1
    lines = [kql_comment("T1114.002 Remote Email Collection: every core rule, newest first")]
    if shared:
        lines.append(f"let {LOOKBACK} = {lookbacks[0]};")
    lines += [parameter for query in queries for parameter in query.parameters]
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


PLATFORM = Sentinel()

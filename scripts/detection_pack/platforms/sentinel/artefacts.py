"""The files of dist/sentinel/ and dist/defender/."""

from __future__ import annotations

from detection_pack.findings import Finding, PackError
from detection_pack.pack import Pack, load_pipeline
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.sentinel.analytics import ScheduledRule, analytics_yaml, scheduled_rule
from detection_pack.platforms.sentinel.arm import templates
from detection_pack.platforms.sentinel.defender import defender_query
from detection_pack.platforms.sentinel.literals import kql_comment
from detection_pack.platforms.sentinel.query import LOOKBACK, SentinelQuery, query_of

PLATFORM = "sentinel"
DEFENDER = "defender"
UNION = f"{PLATFORM}/remote_email_collection.kql"


def artefacts(pack: Pack, skipped: list[Finding] | None = None) -> list[Artefact]:
    """``queries/<name>.kql`` for every rule, the union of the core tier, and what the portals import:
    ``analytics/<name>.yaml``, ``azuredeploy.json`` and Defender XDR's ``<name>.kql``.

    With ``skipped`` a refused rule is reported there and left out; without, it is raised.
    """
    hunting_schema = load_pipeline(DEFENDER, pack.root / "pipelines" / f"{DEFENDER}.yml")
    queries: dict[str, SentinelQuery] = {}
    scheduled: list[ScheduledRule] = []
    made: list[Artefact] = []
    for rule in pack.rules:
        try:
            query = query_of(rule, pack.pipelines[PLATFORM])
            own = [Artefact(f"{PLATFORM}/queries/{rule.name}.kql", query.text().encode(), rule.name)]
            if rule.tier != "hunting":
                alerting = scheduled_rule(rule, pack.pipelines[PLATFORM], pack.version)
                detection = defender_query(rule, hunting_schema)
                own += [
                    Artefact(
                        f"{PLATFORM}/analytics/{rule.name}.yaml", analytics_yaml(alerting).encode(), rule.name
                    ),
                    Artefact(f"{DEFENDER}/{rule.name}.kql", detection.encode(), rule.name),
                ]
                scheduled.append(alerting)
            queries[rule.name] = query
            made += own
        except PackError as error:
            if skipped is None:
                raise
            skipped.extend(error.findings)
    for number, template in enumerate(templates(scheduled, pack.version), start=1):
        suffix = f"-{number}" if number > 1 else ""
        made.append(Artefact(f"{PLATFORM}/azuredeploy{suffix}.json", template.encode()))
    core = [queries[rule.name] for rule in pack.rules if rule.tier == "core" and rule.name in queries]
    return [*made, Artefact(UNION, union(core).encode())] if core else made


def union(queries: list[SentinelQuery]) -> str:
    """All rules in one query, newest first, with one look-back for all and each rule's own knobs."""
    lookbacks = list(dict.fromkeys(query.lookback for query in queries))
    shared = len(lookbacks) == 1
    lines = [kql_comment("T1114.002 Remote Email Collection: every core rule, newest first")]
    if shared:
        lines.append(f"let {LOOKBACK} = {lookbacks[0]};")
    lines += [knob for query in queries for knob in query.knobs]
    for query in queries:
        body = query.body
        if not shared:
            lines.append(f"let {query.identifier}Lookback = {query.lookback};")
            body = body.replace(f"ago({LOOKBACK})", f"ago({query.identifier}Lookback)")
        lines += [kql_comment(query.title), f"let {query.identifier} = {body};"]
    lines += [f"union {', '.join(query.identifier for query in queries)}", "| sort by TimeGenerated desc"]
    return "\n".join(lines) + "\n"

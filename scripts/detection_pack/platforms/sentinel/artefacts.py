"""The files of dist/sentinel/."""

from __future__ import annotations

from detection_pack.findings import Finding, PackError
from detection_pack.pack import Pack
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.sentinel.literals import kql_comment
from detection_pack.platforms.sentinel.query import LOOKBACK, SentinelQuery, query_of

PLATFORM = "sentinel"
UNION = f"{PLATFORM}/remote_email_collection.kql"


def artefacts(pack: Pack, skipped: list[Finding] | None = None) -> list[Artefact]:
    """``queries/<name>.kql`` for every rule, and the union of the core tier.

    With ``skipped`` a refused rule is reported there and left out; without, it is raised.
    """
    queries: dict[str, SentinelQuery] = {}
    for rule in pack.rules:
        try:
            queries[rule.name] = query_of(rule, pack.pipelines[PLATFORM])
        except PackError as error:
            if skipped is None:
                raise
            skipped.extend(error.findings)
    made = [
        Artefact(f"{PLATFORM}/queries/{name}.kql", query.text().encode(), name)
        for name, query in queries.items()
    ]
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

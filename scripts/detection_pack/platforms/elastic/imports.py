"""The pack as Kibana detection rules: ``rules.ndjson``, for Security, Rules, Import rules, written and read.

Source: Kibana's Detections API, "Create a detection rule" and "Export detection rules": one rule a line and
a last line that sums up. A plain rule is of type ``query``. A correlation is two rules: ``esql``, which is
exact, under the Sigma rule's own id, and ``threshold``, an approximation for licences without alert
suppression; `triage` says in both which to enable.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from detection_pack.languages.markdown import folded
from detection_pack.model.attack import Tactic, Technique, attack, tactics_of, techniques_of
from detection_pack.model.collection import collection
from detection_pack.model.findings import PackError
from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.elastic.backend import ElasticQuery
from detection_pack.platforms.elastic.conditions import stated_type, word_characters
from detection_pack.platforms.elastic.esql_text import GROUP_KEY, MOST_GROUPS, WINDOW, name, scheduled
from detection_pack.platforms.elastic.timing import Schedule, schedule
from detection_pack.platforms.elastic.triage import investigation_guide, paragraphs, setup_guide, texts
from detection_pack.platforms.prerequisites import of_state

PLATFORM = "elastic"
PATH = f"{PLATFORM}/rules.ndjson"
QUERIES = f"{PLATFORM}/queries"
#: The tag that names a rule's Sigma file; what executes rules.ndjson finds the rule by it.
NAME_TAG = "Sigma rule: "
#: Kibana's severities and the scores that its own interface gives them.
_SEVERITIES = {
    "informational": ("low", 21),
    "low": ("low", 21),
    "medium": ("medium", 47),
    "high": ("high", 73),
    "critical": ("critical", 99),
}
#: Alerts of a run. 100 is Kibana's own default; a run that finds more documents is continued by the next,
#: whose look-back overlaps. A row of ES|QL has no document: a run looks at three times as many rows, those
#: that have alerted among them, so it gets what Kibana allows (xpack.alerting.rules.run.alerts.max).
_MAX_SIGNALS = {"query": 100, "threshold": 100, "esql": 1000}
#: Before 9.2 Kibana suppresses by three fields at most.
_MAX_SUPPRESSED_BY = 3
_LUCENE_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\])*/|\\.')
_ESQL_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|//.*')


@dataclass(frozen=True)
class _Source:
    """A rule, its queries and what the pipeline says of its log source."""

    rule: Rule
    query: ElasticQuery
    state: Mapping[str, Any]
    version: int


def rules_of(rule: Rule, query: ElasticQuery, version: str) -> list[dict[str, Any]]:
    """The Kibana rules of one Sigma file."""
    source = _Source(rule, query, query.state, _version(version))
    if query.esql is None:
        assert query.lucene is not None
        return [_rule(source, "query", {"query": query.lucene, "language": "lucene", **_searched(query)})]
    exact = query.esql
    if (reach := schedule("esql", rule, query.state).reach) is not None:
        exact = scheduled(exact, Timespan(int(reach.total_seconds())))
    made = [_rule(source, "esql", {"query": exact, "language": "esql"})]
    if query.threshold is not None and query.lucene is not None:
        own = {"query": query.lucene, "language": "lucene", **_searched(query)}
        made.append(_rule(source, "threshold", own | {"threshold": dict(query.threshold["threshold"])}))
    return made


def line(rule: Mapping[str, Any]) -> str:
    """A rule as one line of JSON."""
    return json.dumps(rule, ensure_ascii=False) + "\n"


def ndjson(lines: Sequence[str]) -> bytes:
    """What Kibana's import reads: a rule a line (`line`), then the summary of an export."""
    summary = {
        "exported_count": len(lines),
        "exported_rules_count": len(lines),
        "missing_rules": [],
        "missing_rules_count": 0,
        "exported_exception_list_count": 0,
        "exported_exception_list_item_count": 0,
        "missing_exception_list_item_count": 0,
        "missing_exception_list_items": [],
        "missing_exception_lists": [],
        "missing_exception_lists_count": 0,
        "exported_action_connector_count": 0,
        "missing_action_connection_count": 0,
        "missing_action_connections": [],
        "excluded_action_connection_count": 0,
        "excluded_action_connections": [],
    }
    return "".join([*lines, line(summary)]).encode()


def _rule(source: _Source, kind: str, own: Mapping[str, Any]) -> dict[str, Any]:
    rule, query, data = source.rule, source.query, source.rule.main.data
    title = folded(rule.title) or rule.name
    severity, score = _SEVERITIES.get(rule.level, _SEVERITIES["medium"])
    timing = schedule(kind, rule, source.state)
    suppression = _suppression(source, kind, timing)
    needed = of_state(source.state)
    suppressed = suppression.get("alert_suppression", {}).get("group_by", ())
    made = {
        "rule_id": rule_id(rule, kind),
        "name": f"{title} (threshold)" if kind == "threshold" else title,
        "description": "\n\n".join(paragraphs(data.get("description") or "")) or title,
        "type": kind,
        "enabled": False,
        "version": source.version,
        "severity": severity,
        "risk_score": score,
        "severity_mapping": [],
        "risk_score_mapping": [],
        **own,
        **timing.fields(),
        **suppression,
        "max_signals": _MAX_SIGNALS[kind],
        "threat": _threat(rule),
        "author": [author for author in map(folded, str(data.get("author") or "").split(",")) if author],
        "license": folded(rule.licence),
        "references": [text for text in texts(data.get("references")) if re.match(r"https?://", text)],
        "false_positives": texts(data.get("falsepositives")),
        "tags": _tags(rule),
        "note": investigation_guide(rule, query.fields, kind),
        "setup": setup_guide(
            kind, timing, query.index, needed, suppressed, _arriving(source, kind, str(own["query"]))
        ),
        "related_integrations": [
            {key: one.more[key] for key in ("package", "integration", "version") if key in one.more}
            for one in needed
            if "package" in one.more
        ],
        "required_fields": _required(source, kind, str(own["query"])),
    }
    if shown := shown_fields(rule, query, kind):
        made["investigation_fields"] = {"field_names": shown}
    return made | {"exceptions_list": [], "actions": [], "immutable": False}


def rule_id(rule: Rule, kind: str) -> str:
    """The Sigma rule's id; made from it for the second rule, and from the name where a rule has no id."""
    try:
        identifier = uuid.UUID(rule.id)
    except ValueError:
        identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:detection-pack:{rule.name}")
    return str(uuid.uuid5(identifier, kind) if kind == "threshold" else identifier)


def _version(text: str) -> int:
    """Kibana counts versions in whole numbers: 1.2.3 is 10203."""
    parts = [int(part) for part in re.findall(r"\d+", text)[:3]]
    major, minor, patch = (*parts, 0, 0, 0)[:3]
    return max(major * 10_000 + minor * 100 + patch, 1)


def _searched(query: ElasticQuery) -> dict[str, Any]:
    return {"index": list(query.index), "filters": []}


def _suppression(source: _Source, kind: str, timing: Schedule) -> dict[str, Any]:
    """One alert for what is one finding, where the licence has suppression; elsewhere Kibana ignores it.

    A threshold rule needs none: it leaves out by itself what it has alerted on.
    """
    if kind == "threshold":
        return {}
    if kind == "esql":
        correlation = source.rule.correlation
        groups = [source.query.fields[g] for g in correlation.group_by] if correlation else []
        kept = groups if len(groups) <= MOST_GROUPS else [GROUP_KEY]
        by, minutes, missing = [*kept, WINDOW], _minutes(timing.seen), "suppress"
    else:
        alert, fields = source.rule.alert, source.query.fields
        named = [alert.user, alert.source, *(part for is_field, part in alert.detail_parts() if is_field)]
        if source.rule.main.data.get("alert") is None:
            named.insert(2, alert.extra)  # its text names no field that tells one act from another
        types: Mapping[str, str] = source.state.get("field_types") or {}
        known = [fields[n] for n in named if n and n in fields and _groups(stated_type(types, fields[n]))]
        by, minutes, missing = list(dict.fromkeys(known))[:_MAX_SUPPRESSED_BY], 60, "doNotSuppress"
        if not by:
            return {}
    hours, rest = divmod(minutes, 60)
    duration = {"value": minutes, "unit": "m"} if rest else {"value": hours, "unit": "h"}
    return {"alert_suppression": {"group_by": by, "duration": duration, "missing_fields_strategy": missing}}


def _groups(kind: str | None) -> bool:
    """Whether alerts can be grouped by a field of a type: not by an object, nor by text kept as words."""
    return kind != "object" and word_characters(kind or "") is None


def _minutes(value: timedelta) -> int:
    return -(-value // timedelta(minutes=1))


def _threat(rule: Rule) -> list[dict[str, Any]]:
    """Kibana's ATT&CK mapping: each tactic with its techniques, each technique with its sub-techniques.

    A technique stands below those of its tactics that the rule names, or below all of them. One that is not
    in use has no name to stand there with.
    """
    named = techniques_of(rule)
    wanted = list(tactics_of(rule))
    for technique in named:
        if not any(tactic.short in technique.tactics for tactic in wanted):
            wanted += [attack().tactics[short] for short in technique.tactics]
    return [_tactic(tactic, named) for tactic in dict.fromkeys(wanted)]


def _tactic(tactic: Tactic, named: Sequence[Technique]) -> dict[str, Any]:
    inside = [technique for technique in named if tactic.short in technique.tactics]
    listed = []
    for parent in dict.fromkeys(technique.parent or technique.id for technique in inside):
        below = [_named(technique) for technique in inside if technique.parent == parent]
        listed.append(_named(attack().techniques[parent]) | {"subtechnique": below})
    return {"framework": "MITRE ATT&CK", "tactic": _named(tactic), "technique": listed}


def _named(item: Tactic | Technique) -> dict[str, Any]:
    return {"id": item.id, "name": item.name, "reference": item.reference}


def _tags(rule: Rule) -> list[str]:
    tags = [folded(collection().tag), f"{NAME_TAG}{rule.name}", f"Tier: {rule.tier}"]
    tags += [f"Tactic: {tactic.name}" for tactic in tactics_of(rule)]
    tags += [f"Technique: {technique}" for technique in rule.techniques]
    if confidence := rule.main.data.get("confidence"):
        tags.append(f"Confidence: {folded(confidence)}")
    return tags + [f"Data Source: {source}" for source in texts(rule.main.data.get("data_sources"))]


def _required(source: _Source, kind: str, query: str) -> list[dict[str, Any]]:
    """The fields that the query reads, with their types."""
    types: Mapping[str, str] = source.state.get("field_types") or {}
    vendor = tuple(source.state.get("vendor_fields") or ())
    counted = [c["field"] for c in (source.query.threshold or {}).get("threshold", {}).get("cardinality", ())]
    grouped = (source.query.threshold or {}).get("threshold", {}).get("field", ())
    read = set(_fields_read(query, kind, types))
    read |= {*counted, *grouped} if kind == "threshold" else set()
    return [
        {"name": field, "type": held.partition("(")[0], "ecs": not field.startswith(vendor)}
        for field in sorted(read)
        if (held := stated_type(types, field)) is not None
    ]


def _arriving(source: _Source, kind: str, query: str) -> list[str]:
    """The fields of an ES|QL query that no mapping has before a record brings them."""
    types: Mapping[str, str] = source.state.get("field_types") or {}
    read = _fields_read(query, kind, types) if kind == "esql" else ()
    return sorted({field for field in read if field not in types})


def _fields_read(query: str, kind: str, types: Mapping[str, str]) -> Iterator[str]:
    """Field names stand bare: what is quoted, an expression or escaped is none."""
    bare = (_ESQL_QUOTED if kind == "esql" else _LUCENE_QUOTED).sub('""', query)
    for field in types:
        if field.endswith(".*"):
            yield from re.findall(rf"(?<![\w.@`]){re.escape(field[:-1])}[\w.]+", bare)
            continue
        said = name(field) if kind == "esql" else field
        if re.search(rf"(?<![\w.@`]){re.escape(said)}(?![\w.`])", bare):
            yield field


def shown_fields(rule: Rule, query: ElasticQuery, kind: str) -> list[str]:
    """What Kibana highlights in an alert, and a hunt has as columns: the fields of the alert view.

    An ES|QL alert holds the columns of its query and no others; an object is shown by fields below it.
    """
    fields = query.fields
    below: Mapping[str, Sequence[str]] = query.state.get("shown_fields") or {}
    viewed = [fields[n] for n in rule.alert.fields if n in fields]
    if kind == "esql" and query.esql is not None:
        kept = re.findall(r"^\| KEEP (.+)$", query.esql, re.MULTILINE)[-1].split(", ")
        return [column.replace("`", "") for column in kept if column not in ("time", GROUP_KEY)]
    return list(dict.fromkeys(leaf for field in viewed for leaf in (field, *below.get(field, ()))))


def load_rules(dist: Path) -> list[dict[str, Any]]:
    """The rules of rules.ndjson, without its last line. Raises `PackError`."""
    path = dist / PATH
    try:
        lines = [json.loads(line) for line in built_text(path).split("\n") if line]
    except ValueError as error:
        raise PackError.at(path, 1, "is not JSON, a line each", "run detection-pack build") from error
    return [line for line in lines if "rule_id" in line]


def name_of(rule: Mapping[str, Any]) -> str:
    """The Sigma name that a rule's tags carry; empty for a rule of somebody else."""
    named = (tag.removeprefix(NAME_TAG) for tag in rule["tags"] if tag.startswith(NAME_TAG))
    return next(named, "")

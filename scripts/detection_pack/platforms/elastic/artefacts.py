"""The files that Elastic users take out of dist/: rules to import, queries as text, threshold parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.elastic import rules
from detection_pack.platforms.elastic.backend import ElasticQuery, queries

PLATFORM = "elastic"
FOLDER = f"{PLATFORM}/queries"


def part(rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
    """``<name>.lucene``, ``.esql`` and ``.threshold.json`` for correlations, and ``.view.json``: the indices
    that the query reads and the fields that its alert shows. All of them are in the rules that Kibana
    imports. Raises `PackError`."""
    query = queries(rule, pipelines[PLATFORM])
    imported = rules.rules_of(rule, query, version)
    return Part(
        rule.name,
        rule.tier,
        tuple(_of_rule(rule, query)),
        {"rules": [rules.line(one) for one in imported]},
        tuple(one["rule_id"] for one in imported),
    )


def assembled(parts: Sequence[Part], version: str) -> list[Artefact]:
    """``rules.ndjson``, for Kibana's import."""
    imported = [line for one in parts for line in one.shared["rules"]]
    return [Artefact(rules.PATH, rules.ndjson(imported))] if imported else []


def _of_rule(rule: Rule, query: ElasticQuery) -> list[Artefact]:
    out = []
    if query.lucene is not None:
        # Lucene has no comments: the file is the query and one final newline.
        out.append(Artefact(f"{FOLDER}/{rule.name}.lucene", (query.lucene + "\n").encode(), rule.name))
    if query.esql is not None:
        out.append(Artefact(f"{FOLDER}/{rule.name}.esql", query.esql.encode(), rule.name))
    if query.threshold is not None:
        out.append(Artefact(f"{FOLDER}/{rule.name}.threshold.json", _json(query.threshold), rule.name))
    out.append(Artefact(f"{FOLDER}/{rule.name}.view.json", _json(_view(rule, query)), rule.name))
    return out


def _view(rule: Rule, query: ElasticQuery) -> dict[str, Any]:
    alert = rule.alert
    shown = {
        "UserId": alert.user,
        "ClientIP": alert.source,
        "ClientAgent": alert.agent,
        "ExtraInfo": alert.extra,
    }
    return {
        "index": list(query.index),
        "fields": dict(sorted(query.fields.items())),
        "time": "@timestamp",
        "columns": {column: query.fields[field] for column, field in shown.items() if field},
        "DetectionType": alert.type,
        "DetectionDetail": [
            {"field": query.fields.get(part, part)} if is_field else part
            for is_field, part in alert.detail_parts()
        ],
    }


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()

"""The files that Elastic users take out of dist/: rules to import, queries as text, threshold parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from detection_pack.findings import Finding, PackError
from detection_pack.pack import Pack, Rule
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.elastic import rules
from detection_pack.platforms.elastic.backend import ElasticQuery, queries

FOLDER = "elastic/queries"


def artefacts(pack: Pack, skipped: list[Finding] | None = None) -> list[Artefact]:
    """``<name>.lucene`` for each rule, ``.esql`` and ``.threshold.json`` for correlations, and for each
    ``.view.json``: the indices that the query reads and the fields that its alert shows. All of them are
    in ``rules.ndjson``.

    With ``skipped`` a refused rule is reported there and left out; without, it is raised.
    """
    written: list[Artefact] = []
    imported: list[Mapping[str, Any]] = []
    taken: dict[str, str] = {}
    for rule in pack.rules:
        try:
            query = queries(rule, pack.pipelines["elastic"])
            made = rules.rules_of(pack, rule, query)
            rules.distinct(made, rule, taken)
            written += _of_rule(rule, query)
            imported += made
        except PackError as error:
            if skipped is None:
                raise
            skipped.extend(error.findings)
    if imported:
        written.append(Artefact(rules.PATH, rules.ndjson(imported)))
    return written


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

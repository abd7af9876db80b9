"""Rules and events for the Elastic tests, made from a few values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from conftest import ROOT
from detection_pack.model.event import Event
from detection_pack.model.pipeline import Pipeline, load_pipelines
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.elastic.backend import ElasticQuery, queries
from detection_pack.platforms.elastic.store import Store
from support.sources import BY_KIND

AUDIT = {"product": "m365", "service": "exchange"}
PROCESS = {"product": "windows", "category": "process_creation"}


@cache
def pipeline() -> Pipeline:
    return load_pipelines(ROOT)["elastic"]


def rule(detection: Mapping[str, Any], logsource: Mapping[str, str] = AUDIT, **more: Any) -> Rule:
    """A rule whose condition is its only selection unless it states one. ``more`` are further keys at its top
    level."""
    stated = detection if "condition" in detection else {"selection": detection, "condition": "selection"}
    return rule_of({"title": "Test", "logsource": logsource, "detection": stated, **more})


def rule_of(*documents: Mapping[str, Any]) -> Rule:
    """A rule file of these documents."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "test_rule.yml"
        path.write_text(yaml.safe_dump_all(documents, allow_unicode=True), encoding="utf-8")
        return load_rule(path, "other", named_by_stem=True)


def converted(
    detection: Mapping[str, Any], logsource: Mapping[str, str] = AUDIT, **more: Any
) -> ElasticQuery:
    return queries(rule(detection, logsource, **more), pipeline())


def matching(query: str, records: Sequence[Mapping[str, Any]], kind: str = "m365") -> list[bool]:
    """For each record whether the query string finds it."""
    events = [Event(str(n), BY_KIND[kind], r) for n, r in enumerate(records)]
    with Store(events) as store:
        found = store.lucene(query)
    return [event.id in found for event in events]

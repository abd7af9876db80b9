"""The trap: KQL that an emulator runs and the portal refuses.

Microsoft's own parser reads every query of dist/ with our tables declared and finds nothing to say; the
union has the reference's seven columns, with types. The same for what the backend makes of rules that
the pack does not hold: every correlation type, every operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from conftest import DIST
from detection_pack.model.rule_reader import load_rule
from detection_pack.platforms.kusto.query import query_of
from judges import kql_judge, require
from platforms.sentinel.test_sentinel_backend import CASES, PIPELINE, rule_of
from platforms.sentinel.test_sentinel_correlations import CORRELATIONS, correlation_file
from support import reference_query
from support.sources import SENTINEL_TABLES

SEVEN = [
    ("TimeGenerated", "datetime"),
    ("UserId", "string"),
    ("ClientIP", "string"),
    ("ClientAgent", "string"),
    ("DetectionType", "string"),
    ("DetectionDetail", "string"),
    ("ExtraInfo", "string"),
]


def tables() -> Mapping[str, Mapping[str, str]]:
    return SENTINEL_TABLES


def complaints(queries: Mapping[str, str]) -> dict[str, list[str]]:
    analysed = kql_judge.analyze(tables(), queries)
    return {
        name: [str(d) for d in found.diagnostics] for name, found in analysed.items() if found.diagnostics
    }


@pytest.fixture(scope="module")
def shipped() -> Mapping[str, kql_judge.Analysis]:
    """Microsoft's reading of every query of dist/, by its path."""
    require(kql_judge.available())
    queries = {str(path): path.read_text(encoding="utf-8") for path in sorted(DIST.glob("sentinel/**/*.kql"))}
    assert len(queries) >= 5
    return kql_judge.analyze(tables(), queries)


def test_every_query_of_dist_is_without_a_diagnostic(shipped: Mapping[str, kql_judge.Analysis]) -> None:
    assert {name: found.diagnostics for name, found in shipped.items() if found.diagnostics} == {}


def test_union_and_every_query_have_the_seven_columns(shipped: Mapping[str, kql_judge.Analysis]) -> None:
    for name, analysis in shipped.items():
        assert [(c.name, c.type) for c in analysis.columns] == SEVEN, name


def test_seven_columns_are_those_of_the_reference() -> None:
    assert list(reference_query.load()["columns"].items()) == SEVEN


def test_operators_and_correlations_are_without_a_diagnostic(tmp_path: Path) -> None:
    require(kql_judge.available())
    queries = {
        title: query_of(rule_of(tmp_path, selection, condition), PIPELINE).text()
        for title, selection, condition, _, _ in CASES
    }
    cidr = {"ClientIP|cidr": ["198.51.100.0/24", "2001:db8::/32"]}
    queries["cidr"] = query_of(rule_of(tmp_path, cidr), PIPELINE).text()
    hostile = {
        "UserId": ['"', "\\", "a\nb", "'; drop", "*/", '@"', "\u202e", "`|"],
        "ResultStatus|re": '"\\"\\\\',
    }
    queries["hostile"] = query_of(rule_of(tmp_path, hostile), PIPELINE).text()
    for kind in CORRELATIONS:
        rule = load_rule(correlation_file(tmp_path, kind), "other", named_by_stem=True)
        queries[kind] = query_of(rule, PIPELINE).text()
    assert complaints(queries) == {}

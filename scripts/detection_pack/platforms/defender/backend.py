"""Custom detections of Microsoft Defender XDR: the same rules on its own tables.

A custom detection must return Timestamp and ReportId of one event and a column that names a device or a user
("Create and manage custom detections rules", required columns); the pipeline lists them as
``evidence_fields``. A correlation takes them from the last event of the group, by ``arg_max``. The query has
no time range: the service hands it the data of the rule's frequency and asks not to filter by Timestamp.
"""

from __future__ import annotations

from typing import Any

from sigma.conversion.state import ConversionState
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from detection_pack.model.pipeline import Pipeline
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.rule import Rule
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.query import alert_view, conversion_of

#: The name of the schema, of its files in a log source's folder and of its folder in dist/.
DEFENDER = "defender"
TIME = "Timestamp"


class DefenderBackend(SentinelBackend):
    """KQL for the advanced hunting schema."""

    name = "Microsoft Defender XDR KQL"

    def _column(self, name: str, state: ConversionState) -> tuple[str, str]:
        """A field that the pipeline derives is text, and stands before any column of its name."""
        table = state.processing_state.get("query_table", "")
        columns = self.tables.get(table, {})
        if name not in self._listed("derived_fields", state) and name not in columns:
            raise RefusedValue(f'table "{table}" of Defender XDR has no column "{name}"', name)
        self.used_columns.add(name)
        derived = name in self._listed("derived_fields", state)
        return name, "string" if derived else columns[name]

    def finish_query(self, rule: Any, query: Any, state: ConversionState) -> Any:
        text = super().finish_query(rule, query, state)
        if not isinstance(rule, SigmaRule):
            return text
        table, _time_range, *conditions = str(text).split("\n")
        derived = dict(self._listed("derived_fields", state))
        there = {*self.used_columns, *rule.fields}
        missing = [f for f in self._listed("evidence_fields", state) if f in derived and f not in there]
        return "\n".join([table, *conditions, *(f"| extend {name} = {derived[name]}" for name in missing)])

    # The lines below hold names of columns and nothing of a rule's values.

    def _ordered(self, rule: SigmaCorrelationRule, kind: str, state: ConversionState) -> list[str]:
        sort, *lines = super()._ordered(rule, kind, state)
        return [sort.replace("TimeGenerated", TIME), *lines]

    def _summarize(self, rule: SigmaCorrelationRule, values: list[str], state: ConversionState) -> list[str]:
        [text] = super()._summarize(rule, values, state)
        evidence = ", ".join([TIME, *self._listed("evidence_fields", state)])
        last = f"    ({evidence}) = arg_max({evidence}),\n"
        return [text.replace("TimeGenerated", TIME).replace("| summarize\n", f"| summarize\n{last}", 1)]


def defender_query(rule: Rule, pipeline: Pipeline) -> str:
    """The custom detection's query. Raises `PackError`.

    It has no comment, because a query with one cannot run continuously.
    """
    converted, parameters = conversion_of(rule, pipeline, DefenderBackend)
    leading = [TIME, *(converted.state.get("evidence_fields") or ())]
    view = alert_view(rule, converted, leading)
    return "\n".join([*parameters, converted.queries[0], *view]) + "\n"

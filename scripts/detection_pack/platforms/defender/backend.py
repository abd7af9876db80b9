"""Custom detections of Microsoft Defender XDR: the same rules on its own tables.

A custom detection must return Timestamp and ReportId of one event and a column that names a device or a user
("Create and manage custom detections rules", required columns); the pipeline lists them as
``evidence_fields``. A correlation takes them from the first event of the group, by ``arg_min``: those of the
last would change with each event that a burst grows by, and what has changed is another alert. The query has
no time range: the service hands it the data of the rule's frequency and asks not to filter by Timestamp.

What is sent to the API as a detection (`detection_query`) also says where a burst begins, and leaves out
windows that the look-back has cut: a burst whose first events are gone would begin later, and alert again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sigma.conversion.state import ConversionState
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.conversion import Converted
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.correlations import WINDOW_START
from detection_pack.platforms.kusto.query import LOOKBACK, alert_view, conversion_of

#: The name of the schema, of its files in a log source's folder and of its folder in dist/.
DEFENDER = "defender"
TIME = "Timestamp"
#: The column of a detection that says where a burst begins.
BURST_START = "BurstStart"


class DefenderBackend(SentinelBackend):
    """KQL for the advanced hunting schema."""

    name = "Microsoft Defender XDR KQL"
    schema = " of Defender XDR"

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
        first = f"    ({evidence}) = arg_min({evidence}),\n"
        return [text.replace("TimeGenerated", TIME).replace("| summarize\n", f"| summarize\n{first}", 1)]

    def _expanded(self) -> list[str]:
        return [line.replace("TimeGenerated", TIME) for line in super()._expanded()]

    def _kept(self, rule: SigmaCorrelationRule, state: ConversionState) -> list[str]:
        groups = rule.group_by or []
        evidence = [TIME, *self._listed("evidence_fields", state)]
        return [*(name for name in evidence if name not in groups), *super()._kept(rule, state)]


def defender_query(rule: Rule, pipeline: Pipeline) -> str:
    """The custom detection's query. Raises `PackError`.

    It has no comment, because a query with one cannot run continuously.
    """
    return query_of(rule, pipeline)[1]


def query_of(rule: Rule, pipeline: Pipeline) -> tuple[Converted, str]:
    """The rule's conversion and its query. Raises `PackError`."""
    converted, parameters = conversion_of(rule, pipeline, DefenderBackend)
    return converted, _text(rule, converted, parameters)


def detection_query(rule: Rule, converted: Converted, parameters: Sequence[str], lookback: int) -> str:
    """The query as a detection that looks back so many seconds. Of a correlation it names the start of the
    burst in `BURST_START`."""
    if rule.correlation is None:
        return _text(rule, converted, parameters)
    windows = rule.correlation.overlapping
    # Where windows overlap, the one before the first must have been seen whole.
    earliest = lookback - (windows.step if windows is not None else 0)
    return _text(
        rule,
        converted,
        [f"let {LOOKBACK} = {Timespan(earliest).text()};", *parameters],
        [f"| where {WINDOW_START} >= ago({LOOKBACK})"],
        [f"{BURST_START} = {WINDOW_START}"],
    )


def _text(
    rule: Rule,
    converted: Converted,
    parameters: Sequence[str],
    conditions: Sequence[str] = (),
    further: Sequence[str] = (),
) -> str:
    leading = [TIME, *(converted.state.get("evidence_fields") or ())]
    view = alert_view(rule, converted, leading, further)
    return "\n".join([*parameters, converted.queries[0], *conditions, *view]) + "\n"

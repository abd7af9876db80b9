"""The query as the scheduler of Microsoft Sentinel runs it: no event lost, none alerted on twice.

**Late events.** Office audit records reach the workspace minutes to many hours after the event. A run of the
plain query would miss what arrives after its look-back, or alert again on what two look-backs share. So the
scheduled query looks back over the whole query period by event time, and by `ingestion_time` takes only what
arrived since the run before (Microsoft Sentinel: "Handle ingestion delay in scheduled analytics rules"):
each row belongs to exactly one run. What arrives later than the look-back less one run (22 h 55 min for 24 h)
is not seen. The slice of arrivals ends `SettleTime` before the run: the scheduler starts a run five minutes
after its time and cuts event time at that time, and the documentation does not say which of the two ``now()``
is; with the slice five minutes back a row is in the table and inside that cut, whichever it is.

A correlation counts every event of the query period that has arrived, and alerts in the run in which a group
and window begin to hold: they hold with the rows up to this run's slice and did not with the rows up to the
slice before. A late event that completes a group raises its alert; later events of a group that has been
alerted raise none. An operator that can stop holding (``lt``, ``eq``, an average) alerts again when it holds
anew. The look-back begins at a whole window, so no window is counted in part: a window that loses its first
events to the look-back would seem never to have held.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sigma.conversion.state import ConversionState
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from detection_pack.model.findings import PackError
from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.correlations import WINDOW_START
from detection_pack.platforms.kusto.query import LOOKBACK

#: How often a rule runs, and how long a row may take from its ingestion time until a query sees it. Seconds.
FREQUENCY, SETTLE = 3600, 300
SHORTEST, LONGEST = 300, 14 * 86400


@dataclass(frozen=True)
class Schedule:
    """Seconds: how often a rule runs, how far its query looks back, and the period that the service hands it.

    A correlation's look-back starts at a whole window, so its period is one window longer.
    """

    frequency: int
    lookback: int
    period: int

    def parameters(self) -> list[str]:
        """The ``let`` lines that the query needs besides the rule's own."""
        return [
            f"let {LOOKBACK} = {Timespan(self.lookback).text()};",
            f"let QueryFrequency = {Timespan(self.frequency).text()};",
            f"let SettleTime = {Timespan(SETTLE).text()};",
        ]


def schedule_of(rule: Rule) -> Schedule:
    """When a rule runs. Raises `PackError` for what the service would refuse."""
    line = rule.main.line("lookback") if "lookback" in rule.main.data else rule.main.line()
    if not re.fullmatch(r"[1-9]\d{0,3}[dhm]", rule.lookback):
        raise PackError.at(
            rule.path, line, f'"{rule.lookback}" is not a look-back', 'write a number and d, h or m: "24h"'
        )
    lookback = Timespan.parse(rule.lookback).seconds
    window = 0
    if rule.correlation is not None:
        window = -(-rule.correlation.window // 60) * 60
        lookback = max(lookback, window)
    period = lookback + window
    if not SHORTEST <= lookback <= period <= LONGEST:
        what = f"a query period of {Timespan(period).text()} is not between 5 minutes and 14 days"
        raise PackError.at(rule.path, line, what, 'change "lookback" or "timespan"')
    return Schedule(min(FREQUENCY, lookback), lookback, period)


def scheduled(query: str) -> str:
    """A plain rule's query as the scheduler runs it."""
    times = [
        f"| where TimeGenerated > ago({LOOKBACK})",
        "| where ingestion_time() > ago(QueryFrequency + SettleTime) and ingestion_time() <= ago(SettleTime)",
    ]
    return _with_times(query, times)


def _with_times(query: str, times: list[str]) -> str:
    table, _plain_time_range, *conditions = query.split("\n")
    return "\n".join([table, *times, *conditions])


class AnalyticsBackend(SentinelBackend):
    """KQL of a correlation for the scheduler: see "A correlation" above."""

    _search_text = ""

    def finish_query(self, rule: Any, query: Any, state: ConversionState) -> Any:
        text = super().finish_query(rule, query, state)
        if not isinstance(rule, SigmaRule):
            return text
        times = [
            f"| where TimeGenerated >= bin(ago({LOOKBACK}), {self.prefix}Window)",
            "| extend IngestedAt = ingestion_time()",
            "| where IngestedAt <= ago(SettleTime)",
        ]
        return _with_times(str(text), times)

    def _search(self, rule: SigmaCorrelationRule, base: list[SigmaRule], correlation_type: str) -> str:
        self._search_text = super()._search(rule, base, correlation_type)
        return self._search_text

    def convert_correlation_rule_from_template(
        self, rule: SigmaCorrelationRule, correlation_type: str, method: str
    ) -> list[str]:
        [text] = super().convert_correlation_rule_from_template(rule, correlation_type, method)
        aggregation = text.removeprefix(self._search_text + "\n")
        group = ", ".join([*(rule.group_by or []), WINDOW_START])
        return [
            f"let {self.prefix}Events = materialize({self._search_text});\n"
            f"let {self.prefix}AlertedBefore = {self.prefix}Events\n"
            "| where IngestedAt <= ago(QueryFrequency + SettleTime)\n"
            f"{aggregation};\n"
            f"{self.prefix}Events\n"
            f"{aggregation}\n"
            f"| join kind=leftanti {self.prefix}AlertedBefore on {group}"
        ]

"""The query as the scheduler of Microsoft Sentinel runs it: nothing lost, nothing twice, nothing cut.

**Runs overlap, and what has alerted is left out.** A run starts some minutes after its time, sometimes later,
sometimes never, and which of the two times ``now()`` gives is not documented. So no run relies on the one
before: each looks over the whole look-back, and leaves out what an alert of this rule has already. Every
alert carries what it stands for as a custom detail (``AlertKey``), and the service writes custom details into
the table SecurityAlert ("Surface custom event details in alerts"). The key begins with the rule's own id,
then names its group by a hash, so that no text of an event is read back.

**A plain rule** raises one alert for each account and source (what the alert view calls so) a run, however
many events there are, because a run raises 150 alerts at most. The events stand in it. Its key holds the
latest time and the latest arrival among them. That says exactly which events of the group it had: those with
no later time and no later arrival. (One of them that the run did not see would have had to arrive after it,
or to be later than the run's end; then it is later than all that the run saw.) An event is in the table for
`SettleTime` before a run takes it, so that rows which arrive at once are seen at once.

**A correlation** counts all that the look-back holds, by event time, and alerts once for a group and window.
Where windows overlap, it alerts once for a group and a run of windows in which the condition holds without a
gap, whatever the order in which its events arrive: an alert stands for the run of windows that it lies in.
The look-back begins at a whole window, so no window is counted in part. Where windows overlap it is a window
and two steps longer, and the window that starts with it does not alert, because the one before is not
wholly seen: its burst has alerted before, or has come too late.

**Late events.** The look-back is the rule's own and `MARGIN` more, so that an event as late as the rule's
look-back is still seen by the run after the next, should one run fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sigma.conversion.state import ConversionState
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from detection_pack.languages.kql.kql_literals import kql_string
from detection_pack.languages.kql.named_value import column_name
from detection_pack.model.findings import PackError
from detection_pack.model.rule import AlertView, Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.correlations import WINDOW_START
from detection_pack.platforms.kusto.query import LOOKBACK

#: Seconds: how often a rule runs, how long a row waits from its arrival until a run takes it, and how much
#: further a run looks back than the rule says.
FREQUENCY, SETTLE, MARGIN = 3600, 300, 2 * 3600
SHORTEST, LONGEST = 300, 14 * 86400
#: The custom detail that says what an alert stands for, and the column with the number of its events.
ALERT_KEY, EVENT_COUNT = "AlertKey", "EventCount"
#: Custom details hold 2 KB together; with the key they stay below it in letters of up to two bytes.
SHOWN_LENGTHS = {"DetectionDetail": 300, "ClientAgent": 200, "ExtraInfo": 350}
#: Events that an alert holds, and the length of a text in each.
EVENTS, EVENT_TEXT = 100, 2_000
_GROUP, _ALERTED = "AlertGroup", "Alerted"
_STAMP = "([0-9TZ:.-]+)"
#: Before each value of several; a value that is JSON as it stands would be taken apart in a set.
_SEPARATOR = '"; "'


@dataclass(frozen=True)
class Timing:
    """Seconds: how often a rule runs, how far its query looks back, and the period that the service hands it.

    A correlation's look-back starts at a whole window or step, so its period is that much longer.
    """

    frequency: int
    lookback: int
    period: int

    def parameters(self) -> list[str]:
        """The ``let`` lines that the query needs besides the rule's own."""
        return [
            f"let {LOOKBACK} = {Timespan(self.lookback).text()};",
            f"let SettleTime = {Timespan(SETTLE).text()};",
        ]


def timing_of(rule: Rule) -> Timing:
    """When a rule runs. Raises `PackError` for what the service would refuse."""
    line = rule.main.line("lookback") if "lookback" in rule.main.data else rule.main.line()
    if not re.fullmatch(r"[1-9]\d{0,3}[dhm]", rule.lookback):
        raise PackError.at(
            rule.path, line, f'"{rule.lookback}" is not a look-back', 'write a number and d, h or m: "24h"'
        )
    lookback = least = Timespan.parse(rule.lookback).seconds
    snap = 0
    if rule.correlation is not None:
        snap = window = _minutes(rule.correlation.window)
        lookback = least = max(lookback, window)
        if (windows := rule.correlation.overlapping) is not None:
            snap = _minutes(windows.step)
            needed = _minutes(windows.width + windows.step)
            # A long window leaves less time to records that come late.
            least = min(lookback + needed, max(LONGEST - snap, needed + FREQUENCY + SETTLE))
            lookback += needed
    lookback = max(least, min(lookback + MARGIN, LONGEST - snap))
    period = lookback + snap
    if not Timespan.parse(rule.lookback).seconds >= SHORTEST or not period <= LONGEST:
        what = f"a query period of {Timespan(period).text()} is not between 5 minutes and 14 days"
        raise PackError.at(rule.path, line, what, 'change "lookback" or "timespan"')
    return Timing(FREQUENCY, lookback, period)


def _minutes(seconds: int) -> int:
    """Up to whole minutes, in which the service counts."""
    return -(-seconds // 60) * 60


# ---- what has alerted -------------------------------------------------------------------------------------


def _keys(rule_id: str, stamps: int) -> list[str]:
    """Lines for the keys of this rule's alerts: ``Key`` is a list of the group and the times after it."""
    pattern = f"{rule_id} ([0-9a-f]{{32}})" + f" {_STAMP}" * stamps
    return [
        # A workspace has the table as soon as it has Sentinel; without it nothing has alerted.
        f"let {_ALERTED} = union isfuzzy=true SecurityAlert,"
        " (datatable(TimeGenerated: datetime, ExtendedProperties: string) [])",
        f"| where TimeGenerated > ago({LOOKBACK}) and ExtendedProperties has {kql_string(rule_id)}",
        f'| mv-expand Key = extract_all(@"{pattern}", ExtendedProperties)',
    ]


def _key(rule_id: str, *columns: str) -> str:
    """The line that makes the key of an alert."""
    parts = "".join(f', " ", {column}' for column in columns)
    return f'| extend {ALERT_KEY} = strcat({kql_string(rule_id)}, " ", {_GROUP}{parts})'


def _hashed(columns: Sequence[str], folded: bool = False) -> list[str]:
    """The lines that make the group of an alert: one text of these columns, told apart by tabs."""
    text = f"strcat({', '.join(_tabbed(columns))})"
    return [
        f"| extend {_GROUP} = {f'tolower({text})' if folded else text}",
        f"| extend {_GROUP} = hash_md5({_GROUP})",
    ]


def _tabbed(columns: Sequence[str]) -> list[str]:
    return [part for column in columns for part in ('"\\t"', column)] or ['""']


# ---- plain rules ------------------------------------------------------------------------------------------


def plain_query(rule: Rule, rule_id: str, search: str, view: Sequence[str], further: Sequence[str]) -> str:
    """A plain rule's query as the scheduler runs it, but for its parameters.

    ``search``: the rule's query without view. ``view``: the alert view, which also projects ``IngestedAt``
    and, after the seven columns, ``further``.
    """
    table, _plain_time_range, *conditions = search.split("\n")
    by = [column for column in ("UserId", "ClientIP") if rule.alert.field_of(column)] or ["DetectionDetail"]
    shown = {
        column: f"make_set(strcat({_SEPARATOR}, {column}), 20)"
        for column in AlertView.COLUMNS
        if column not in by
    }
    shown["DetectionType"] = "take_any(DetectionType)"
    held = [column for column in AlertView.COLUMNS if column not in (*by, "DetectionType")]
    event = ", ".join(f'"{name}", {name}' for name in ("TimeGenerated", *held))
    cut = [f"{column} = substring({column}, 0, {EVENT_TEXT})" for column in held]
    aggregates = [
        f"Events = make_list(Event, {EVENTS})",
        f"{EVENT_COUNT} = count()",
        "FirstSeen = min(TimeGenerated)",
        "LastSeen = max(TimeGenerated)",
        "LastArrival = max(IngestedAt)",
        *(f"{column} = take_any({column})" for column in (*by, *further)),
        *(f"{column} = {aggregate}" for column, aggregate in shown.items()),
    ]
    listed = [column for column in shown if column != "DetectionType"]
    columns = ["TimeGenerated = FirstSeen", *AlertView.COLUMNS, *further, EVENT_COUNT, "Events", ALERT_KEY]
    return "\n".join(
        [
            *_keys(rule_id, 2),
            "| summarize AlertedTime = max(todatetime(Key[1])), AlertedArrival = max(todatetime(Key[2]))"
            f" by {_GROUP} = tostring(Key[0]);",
            table,
            f"| where TimeGenerated > ago({LOOKBACK})",
            "| extend IngestedAt = ingestion_time()",
            "| where IngestedAt <= ago(SettleTime)",
            *conditions,
            *view,
            *_hashed(by, folded=True),
            f"| join kind=leftouter {_ALERTED} on {_GROUP}",
            "| where isnull(AlertedTime) or TimeGenerated > AlertedTime or IngestedAt > AlertedArrival",
            "| extend " + ",\n    ".join(cut),
            f"| extend Event = bag_pack({event})",
            "| summarize\n    " + ",\n    ".join(aggregates) + f"\n    by {_GROUP}",
            *_joined(listed),
            _key(rule_id, "LastSeen", "LastArrival"),
            f"| project {', '.join(columns)}",
        ]
    )


def _joined(columns: Sequence[str]) -> list[str]:
    """The lines that make one text of each set, whose members begin with the separator, cut to what fits into
    custom details."""
    texts = [f'{column} = strcat_array(array_sort_asc({column}), "")' for column in columns]
    cut = [
        f'{column} = substring(trim_start("(; )+", {column}), 0, {SHOWN_LENGTHS[column]})'
        if column in SHOWN_LENGTHS
        else f'{column} = trim_start("(; )+", {column})'
        for column in columns
    ]
    return ["| extend " + ",\n    ".join(lines) for lines in (texts, cut) if lines]


# ---- correlations -----------------------------------------------------------------------------------------


class AnalyticsBackend(SentinelBackend):
    """KQL of a correlation for the scheduler: see "A correlation" above."""

    def __init__(self, *args: Any, rule_id: str = "", **kwargs: Any) -> None:
        """``rule_id``: the id that the analytics rule has."""
        super().__init__(*args, **kwargs)
        self._rule_id = rule_id

    def finish_query(self, rule: Any, query: Any, state: ConversionState) -> Any:
        text = super().finish_query(rule, query, state)
        if not isinstance(rule, SigmaRule):
            return text
        table, _plain_time_range, *conditions = str(text).split("\n")
        return "\n".join(
            [
                table,
                f"| where TimeGenerated >= {self._start()}",
                "| where ingestion_time() <= ago(SettleTime)",
                *conditions,
            ]
        )

    def _start(self) -> str:
        return f"bin(ago({LOOKBACK}), {self.prefix}{'Window' if self.overlapping is None else 'Step'})"

    def convert_correlation_rule_from_template(
        self, rule: SigmaCorrelationRule, correlation_type: str, method: str
    ) -> list[str]:
        [text] = super().convert_correlation_rule_from_template(rule, correlation_type, method)
        groups = [column_name(field) for field in rule.group_by or []]
        key = _key(self._rule_id, WINDOW_START)
        if self.overlapping is None:
            alerted = f"| project {_GROUP} = tostring(Key[0]), {WINDOW_START} = todatetime(Key[1]);"
            return [
                "\n".join(
                    [
                        *_keys(self._rule_id, 1),
                        alerted,
                        text,
                        *_hashed(groups),
                        f"| join kind=leftanti {_ALERTED} on {_GROUP}, {WINDOW_START}",
                        key,
                    ]
                )
            ]
        bursts, found = f"{self.prefix}Bursts", f"{_ALERTED}Window"
        return [
            "\n".join(
                [
                    *_keys(self._rule_id, 1),
                    f"| project {_GROUP} = tostring(Key[0]), {found} = todatetime(Key[1]);",
                    f"let {bursts} = materialize({text}",
                    "\n".join(_hashed(groups)) + ");",
                    # A burst has alerted if an alerted window lies in it: of the bursts that start no later
                    # than that window it is the last.
                    bursts,
                    f"| where {WINDOW_START} > {self._start()}",
                    f"| join kind=leftanti ({bursts}",
                    f"  | join kind=inner {_ALERTED} on {_GROUP}",
                    f"  | where {WINDOW_START} <= {found}",
                    f"  | summarize {WINDOW_START} = max({WINDOW_START}) by {_GROUP}, {found}",
                    f") on {_GROUP}, {WINDOW_START}",
                    key,
                ]
            )
        ]

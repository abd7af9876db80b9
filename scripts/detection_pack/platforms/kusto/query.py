"""A rule's KQL with its parameters and its alert view."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.languages.kql.kql_literals import kql_comment, kql_string
from detection_pack.languages.kql.named_value import column_name
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.conversion import Converted, convert
from detection_pack.platforms.kusto.backend import SentinelBackend
from detection_pack.platforms.kusto.correlations import EXTRA, FIRST_SEEN, VALUE

LOOKBACK = "LookbackPeriod"
_LET = re.compile(r"^let (\w+) = (.+);$", re.MULTILINE)


@dataclass(frozen=True)
class SentinelQuery:
    """``header``: comment lines. ``parameters``: ``let`` lines besides the look-back. ``body``: one statement
    without its end, whose last line is the projection of the seven columns. ``table``: what it reads."""

    rule: str
    title: str
    rule_id: str
    lookback: str
    parameters: Sequence[str]
    body: str
    table: str
    credit: str = ""

    def text(self) -> str:
        """The query as a file of its own."""
        header = [
            kql_comment(self.title),
            kql_comment(f"rule {self.rule_id} ({self.rule})".replace("  ", " ")),
        ]
        header += [kql_comment(self.credit)] if self.credit else []
        return "\n".join([*header, f"let {LOOKBACK} = {self.lookback};", *self.parameters, self.body]) + "\n"

    @property
    def identifier(self) -> str:
        return pascal(self.rule)


def pascal(name: str) -> str:
    """``bulk_cross_mailbox_access`` to ``BulkCrossMailboxAccess``."""
    return "".join(part.capitalize() for part in name.split("_"))


def query_of(rule: Rule, pipeline: Pipeline) -> SentinelQuery:
    """Convert one rule. Raises `PackError`."""
    return query_from(rule, *conversion_of(rule, pipeline, SentinelBackend))


def query_from(
    rule: Rule, converted: Converted, parameters: tuple[str, ...], further: Sequence[str] = ()
) -> SentinelQuery:
    """The query of a conversion by `SentinelBackend`. ``further``: columns after the seven."""
    body = "\n".join([converted.queries[0], *alert_view(rule, converted, further=further)])
    table = str(converted.state.get("query_table", ""))
    return SentinelQuery(rule.name, rule.title, rule.id, rule.lookback, parameters, body, table, rule.credit)


def conversion_of(
    rule: Rule, pipeline: Pipeline, backend: type[SentinelBackend], **own: Any
) -> tuple[Converted, tuple[str, ...]]:
    """The one query of a rule without its alert view, and the ``let`` lines of a correlation's parameters.

    ``own``: what this backend takes besides.
    """
    options: dict[str, Any] = {"tables": pipeline.tables, **own}
    parameters: list[str] = []
    correlation = rule.correlation
    if correlation is not None:
        prefix = pascal(rule.name)
        extra = rule.alert.extra
        mapping = pipeline.map_field(rule, extra) if extra else None
        shown = [pipeline.map_field(rule, field) for field in gathered(rule)]
        options |= {"prefix": prefix, "extra_field": mapping, "shown_fields": shown}
        if (windows := correlation.overlapping) is None:
            parameters.append(f"let {prefix}Window = {Timespan(correlation.window).text()};")
        else:
            options |= {"overlapping": windows, "firsts_only": correlation.firsts_only}
            parameters.append(f"let {prefix}Step = {Timespan(windows.step).text()};")
        if correlation.type not in ("temporal_ordered",):
            parameters.append(f"let {prefix}Threshold = {correlation.threshold};")
    converted = convert(rule, pipeline, backend, **options)
    if len(converted.queries) != 1:
        raise rule.refused(
            ValueError("a list of conditions is several rules; write one condition"), "condition"
        )
    return converted, tuple(parameters)


def gathered(rule: Rule) -> list[str]:
    """The canonical fields of a correlation's alert view, but for ``extra``, that it does not group by: an
    alert shows the values of its events."""
    grouped = rule.correlation.group_by if rule.correlation else rule.alert.fields
    return [field for field in rule.alert.fields if field not in (*grouped, rule.alert.extra)]


def alert_view(
    rule: Rule,
    converted: Converted,
    leading: Sequence[str] | None = None,
    further: Sequence[str] = (),
) -> list[str]:
    """The lines that turn matching rows into the seven columns.

    ``leading``: what is projected in place of the time. ``further``: columns after the seven.
    """
    alert, correlation = rule.alert, rule.correlation
    table = str(converted.state.get("query_table", ""))
    files: Mapping[str, str] = converted.state.get("file_name_fields") or {}

    several = gathered(rule)

    def column(field: str) -> str:
        name = converted.fields[field]
        # Of what a correlation groups by, `summarize` leaves the column itself.
        grouped = correlation is not None and field in correlation.group_by
        name = column_name(name if grouped else files.get(name, name))
        if field in several:
            # An empty value, which sorts first, leaves nothing but its comma.
            return f'trim_start(", ", strcat_array(array_sort_asc({name}), ", "))'
        return (
            name if converted.tables.get(table, {}).get(name, "string") == "string" else f"tostring({name})"
        )

    def placeholder(name: str) -> str:
        if correlation is not None and name in ("count", "window"):
            return VALUE if name == "count" else kql_string(correlation.timespan)
        return column(name)

    def joined(parts: list[str]) -> str:
        return parts[0] if len(parts) == 1 and parts[0].startswith('"') else f"strcat({', '.join(parts)})"

    view = alert.expressions(kql_string, column, placeholder, joined)
    time = "TimeGenerated"
    if correlation is not None:
        time = f"TimeGenerated = {FIRST_SEEN}"
        if alert.extra and alert.extra not in correlation.group_by:
            view["ExtraInfo"] = f"tostring({EXTRA})"
    extended = {name: view[name] for name in ("DetectionType", "DetectionDetail")}
    shown = [
        name if name in extended or name == value else f"{name} = {value}" for name, value in view.items()
    ]
    first = [time] if leading is None else leading
    return [
        "| extend " + ",\n    ".join(f"{name} = {value}" for name, value in extended.items()),
        f"| project {', '.join([*first, *shown, *further])}",
    ]


def parameters(text: str) -> list[tuple[str, str]]:
    """``(name, value)`` of each ``let`` line of a query: what a site may change in it."""
    return _LET.findall(text)

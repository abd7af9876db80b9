"""A rule's KQL with its knobs and its alert view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.languages.kql.kql_literals import kql_comment, kql_string
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Converted, convert
from detection_pack.platforms.sentinel.backend import SentinelBackend
from detection_pack.platforms.sentinel.correlations import EXTRA, FIRST_SEEN, VALUE

LOOKBACK = "LookbackPeriod"


@dataclass(frozen=True)
class SentinelQuery:
    """``header``: comment lines. ``knobs``: ``let`` lines besides the look-back. ``body``: one statement
    without its end, whose last line is the projection of the seven columns. ``table``: what it reads."""

    rule: str
    title: str
    rule_id: str
    lookback: str
    knobs: Sequence[str]
    body: str
    table: str

    def text(self) -> str:
        """The query as a file of its own."""
        header = [kql_comment(self.title), kql_comment(f"rule {self.rule_id} ({self.rule})")]
        return "\n".join([*header, f"let {LOOKBACK} = {self.lookback};", *self.knobs, self.body]) + "\n"

    @property
    def identifier(self) -> str:
        return pascal(self.rule)


def pascal(name: str) -> str:
    """``bulk_cross_mailbox_access`` to ``BulkCrossMailboxAccess``."""
    return "".join(part.capitalize() for part in name.split("_"))


def query_of(rule: Rule, pipeline: Pipeline) -> SentinelQuery:
    """Convert one rule. Raises `PackError`."""
    return query_from(rule, *conversion_of(rule, pipeline, SentinelBackend))


def query_from(rule: Rule, converted: Converted, knobs: tuple[str, ...]) -> SentinelQuery:
    """The query of a conversion by `SentinelBackend`."""
    body = "\n".join([converted.queries[0], *alert_view(rule, converted)])
    table = str(converted.state.get("query_table", ""))
    return SentinelQuery(rule.name, rule.title, rule.id, rule.lookback, knobs, body, table)


def conversion_of(
    rule: Rule, pipeline: Pipeline, backend: type[SentinelBackend]
) -> tuple[Converted, tuple[str, ...]]:
    """The one query of a rule without its alert view, and the ``let`` lines of a correlation's knobs."""
    options: dict[str, Any] = {"tables": pipeline.tables}
    knobs: list[str] = []
    correlation = rule.correlation
    if correlation is not None:
        prefix = pascal(rule.name)
        extra = rule.alert.extra
        mapping = pipeline.map_field(rule, extra) if extra else None
        options |= {"knobs": prefix, "extra_field": mapping}
        knobs.append(f"let {prefix}Window = {timespan(correlation.window)};")
        if correlation.type not in ("temporal_ordered",):
            knobs.append(f"let {prefix}Threshold = {correlation.threshold};")
    converted = convert(rule, pipeline, backend, **options)
    if len(converted.queries) != 1:
        raise rule.refused(
            ValueError("a list of conditions is several rules; write one condition"), "condition"
        )
    return converted, tuple(knobs)


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

    def column(field: str | None) -> str:
        if not field:
            return '""'
        name = converted.fields[field]
        name = files.get(name, name)
        return (
            name if converted.tables.get(table, {}).get(name, "string") == "string" else f"tostring({name})"
        )

    detail = []
    for is_field, part in alert.detail_parts():
        if not is_field:
            detail.append(kql_string(part))
        elif correlation is not None and part == "count":
            detail.append(VALUE)
        elif correlation is not None and part == "window":
            detail.append(kql_string(correlation.timespan))
        else:
            detail.append(column(part))
    text = detail[0] if len(detail) == 1 and detail[0].startswith('"') else f"strcat({', '.join(detail)})"
    if correlation is None:
        time, extra = "TimeGenerated", column(alert.extra)
    else:
        time = f"TimeGenerated = {FIRST_SEEN}"
        grouped = alert.extra in correlation.group_by if alert.extra else False
        extra = column(alert.extra) if grouped or not alert.extra else f"tostring({EXTRA})"
    view = [
        ("UserId", column(alert.user)),
        ("ClientIP", column(alert.source)),
        ("ClientAgent", column(alert.agent)),
    ]
    projected = [name if name == value else f"{name} = {value}" for name, value in view]
    shown_extra = "ExtraInfo" if extra == "ExtraInfo" else f"ExtraInfo = {extra}"
    first = [time] if leading is None else leading
    shown = [*first, *projected, "DetectionType", "DetectionDetail", shown_extra, *further]
    return [
        f"| extend DetectionType = {kql_string(alert.type)},",
        f"    DetectionDetail = {text}",
        f"| project {', '.join(shown)}",
    ]


def timespan(seconds: int) -> str:
    """Seconds as a Kusto timespan: ``3600`` to ``1h``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"

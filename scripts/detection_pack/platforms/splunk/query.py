"""A rule as a finished SPL search: the backend's search, then the seven columns of the alert view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sigma.conversion.state import ConversionState

from detection_pack.languages.spl.spl_literals import eval_field, eval_string
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.rule import AlertView, Correlation, Rule
from detection_pack.platforms.conversion import Converted, convert
from detection_pack.platforms.splunk.backend import PackSplunkBackend
from detection_pack.platforms.splunk.correlations import COUNT, FIRST_SEEN, alert_key, plain_name, span
from detection_pack.platforms.splunk.predicates import Predicate, is_multivalue
from detection_pack.platforms.splunk.raw_events import raw_search
from detection_pack.platforms.splunk.tstats import DataSetSearch, data_set_search

#: Drops the results that a site has allowed; every search calls it.
EXCLUSIONS = "remote_email_collection_exclusions"
#: The definition of a macro that keeps every result, as Splunk's own content has it for its filters.
KEEP_ALL = "search *"

#: The column that the scheduled searches of the app have besides, to throttle by.
ALERT_KEY = "AlertKey"
#: An event as it was written: the same in every run, and no other event's (Search Reference, "md5").
EVENT_KEY = "md5(_raw)"

COLUMNS = ("_time", *AlertView.COLUMNS)


@dataclass(frozen=True)
class SplunkQuery:
    """A search that can be pasted into Splunk once its macros exist.

    ``search`` finds the events or groups, ``view`` makes the columns; ``macros`` maps each parameter of the
    rule to its shipped definition, ``sources`` each macro of the log source to its definition and
    description.
    ``data_set_search`` finds the same in an accelerated data set, ``raw_search`` in events without CIM
    fields, where they can answer. ``alert_key`` is an expression between search and view that has one value
    for what makes one alert and another for anything else; ``snap`` is the unit that the start of the
    look-back is rounded down to. For Enterprise Security: ``security_domain`` is what kind of finding it is,
    ``hosts`` are the canonical fields that name a host, which is at risk itself.
    """

    name: str
    search: str
    view: str
    macros: Mapping[str, str]
    sources: Mapping[str, tuple[str, str]]
    alert_key: str
    snap: str
    data_set_search: DataSetSearch | None = None
    raw_search: str | None = None
    security_domain: str = "threat"
    hosts: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        return self._shown(self.search)

    @property
    def data_set_text(self) -> str | None:
        return None if self.data_set_search is None else self._shown(self.data_set_search.text)

    @property
    def raw_text(self) -> str | None:
        return None if self.raw_search is None else self._shown(self.raw_search)

    def scheduled(self) -> tuple[str | None, str | None, str | None]:
        """The three forms with the column `ALERT_KEY`, as the app schedules them."""
        data_set = self.data_set_search
        return (
            self._shown(self.search, self.alert_key),
            None if data_set is None else self._shown(data_set.text, data_set.alert_key),
            None if self.raw_search is None else self._shown(self.raw_search, self.alert_key),
        )

    def _shown(self, search: str, key: str | None = None) -> str:
        keyed = [] if key is None else [f"| eval {ALERT_KEY}={key}"]
        columns = [*COLUMNS, *([] if key is None else [ALERT_KEY])]
        filters = [f"| `{EXCLUSIONS}`", f"| table {', '.join(columns)}", f"| `{self.name}_filter`"]
        return "\n".join([search, *keyed, self.view, *filters]) + "\n"


@dataclass(frozen=True)
class _Searched:
    """The search of a rule, and the condition that its other forms are made of."""

    text: str
    condition: Predicate


class _FormsBackend(PackSplunkBackend):
    """Gives `_Searched` for text."""

    def finish_query(self, rule: Any, query: Any, state: ConversionState) -> Any:
        return _Searched(super().finish_query(rule, query, state), query)


def queries(rule: Rule, pipeline: Pipeline) -> SplunkQuery:
    """Convert one rule file. Raises `PackError` where SPL cannot say what the rule says."""
    shown = len(rule.alert.fields)
    # A correlation counts events, and the other forms have groups.
    several = rule.correlation is None
    backend = _FormsBackend if several else PackSplunkBackend
    converted = convert(rule, pipeline, backend, prefix=rule.name, shown=shown)
    try:
        if len(converted.queries) != 1:
            raise RefusedValue("a list of conditions is several rules; write one condition", "condition")
        found: Any = converted.queries[0]
        text = found.text if several else found
        snap = _snap(rule)
        macros = {f"{rule.name}_lookback": f"-{rule.lookback}@{snap}"}
        if rule.correlation is not None:
            macros[f"{rule.name}_window"] = span(rule.correlation.timespan)
            macros[f"{rule.name}_threshold"] = f"{rule.correlation.threshold}"
        macros[f"{rule.name}_filter"] = KEEP_ALL
        view = _view(rule, converted, text)
        key = EVENT_KEY
        if rule.correlation is not None:
            key = alert_key([converted.fields[name] for name in rule.correlation.group_by])
        query = SplunkQuery(
            rule.name,
            text,
            view,
            macros,
            source_macros(converted.state),
            key,
            snap,
            security_domain=str(converted.state.get("security_domain") or "threat"),
            hosts=frozenset(converted.state.get("host_fields") or ()),
        )
        if not several:
            return query
        return replace(
            query,
            data_set_search=data_set_search(rule.name, found.condition, view, converted),
            raw_search=raw_search(rule.name, found.condition, view, converted),
        )
    except RefusedValue as error:
        raise rule.refused(error, error.subject) from error


def _snap(rule: Rule) -> str:
    """A look-back that starts in the middle of a clock window counts a part of it, as if that were all."""
    return "d" if rule.correlation is not None and rule.correlation.window > 3600 else "h"


def source_macros(state: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The macros that find the events of a log source, from the pipeline's state ``macros``."""
    stated: Mapping[str, Mapping[str, str]] = state.get("macros") or {}
    return {name: (macro["definition"], macro["description"]) for name, macro in stated.items()}


def _view(rule: Rule, converted: Converted, search: str) -> str:
    alert, correlation = rule.alert, rule.correlation
    shown = _Shown(converted, correlation)
    lines = []
    if correlation is None:
        derived: dict[str, Any] = dict(converted.state.get("derived_fields") or {})
        used = [name for name in dict.fromkeys(converted.fields[f] for f in alert.fields) if name in derived]
        done = {n for n in used if f"| eval {eval_field(n)}={derived[n]}" in search.split("\n")}
        lines = [f"| eval {eval_field(n)}={derived[n]}" for n in used if n not in done]
    columns = alert.expressions(
        eval_string, shown.column, shown.placeholder, lambda parts: ".".join(parts) or '""'
    )
    user, source = columns.pop("UserId"), columns.pop("ClientIP")
    # The assignments of one eval are made in order, so the columns that are also fields come last.
    if alert.source == "UserId" and alert.user != "UserId":
        if alert.user == "ClientIP":
            raise RefusedValue("the alert view swaps UserId and ClientIP", "alert")
        columns |= {"ClientIP": source, "UserId": user}
    else:
        columns |= {"UserId": user, "ClientIP": source}
    if correlation is not None:
        columns["_time"] = FIRST_SEEN
    lines.append("| eval " + ",\n    ".join(f"{name}={text}" for name, text in columns.items()))
    return "\n".join(lines)


class _Shown:
    """The expressions that show a field of the alert view; an absent field is the empty text."""

    def __init__(self, converted: Converted, correlation: Correlation | None) -> None:
        self.converted = converted
        self.correlation = correlation
        self.file_names: Mapping[str, str] = converted.state.get("file_name_fields") or {}

    def column(self, canonical: str) -> str:
        name = self.converted.fields[canonical]
        joined = self.correlation is not None and canonical not in self.correlation.group_by
        if self.correlation is not None:
            column = plain_name(name)
        else:
            name = self.file_names.get(name, name)
            column = eval_field(name)
        if joined or (self.correlation is None and is_multivalue(name)):
            column = f'mvjoin({column}, ", ")'
        return f'coalesce({column},"")'

    def placeholder(self, text: str) -> str:
        if self.correlation is not None and text == "count":
            return COUNT
        if self.correlation is not None and text == "window":
            return eval_string(self.correlation.timespan)
        return self.column(text)

"""A rule as a finished SPL search: the backend's search, then the seven columns of the alert view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sigma.conversion.state import ConversionState

from detection_pack.languages.spl.spl_literals import eval_field, eval_string
from detection_pack.model.collection import collection
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.rule import INVESTIGATION, AlertView, Correlation, Rule
from detection_pack.model.timespan import SECONDS, Timespan
from detection_pack.platforms.conversion import Converted, convert
from detection_pack.platforms.prerequisites import Prerequisite, of_state
from detection_pack.platforms.splunk.backend import PackSplunkBackend
from detection_pack.platforms.splunk.correlations import COUNT, FIRST_SEEN, alert_key, plain_name, span
from detection_pack.platforms.splunk.index_times import DUE, LONGEST_WAIT
from detection_pack.platforms.splunk.predicates import Predicate, is_multivalue
from detection_pack.platforms.splunk.raw_events import raw_search
from detection_pack.platforms.splunk.tstats import DataSetSearch, data_set_search

#: The definition of a macro that keeps every result, as Splunk's own content has it for its filters.
KEEP_ALL = "search *"

#: The column that the scheduled searches of the app have besides, to throttle by.
ALERT_KEY = "AlertKey"
#: Of alerts a result Splunk raises a number in a run and no more: the newest results come first.
NEWEST_FIRST = "| sort 0 -_time\n"
#: An event as it was written: the same in every run, and no other event's (Search Reference, "md5").
EVENT_KEY = "md5(_raw)"

COLUMNS = ("_time", *AlertView.COLUMNS)


def exclusions() -> str:
    """The macro that drops the results that a site has allowed; every search calls it but those that are
    asked after an alert: what an allowed account did is what they are asked for."""
    return f"{collection().name}_exclusions"


@dataclass(frozen=True)
class SplunkQuery:
    """A search that can be pasted into Splunk once its macros exist.

    ``search`` finds the events or groups, ``view`` makes the columns; ``macros`` maps each parameter of the
    rule to its shipped definition, ``sources`` each macro of the log source to its definition and
    description. ``data_set_search`` finds the same in an accelerated data set, ``raw_search`` in events
    without CIM fields, where they can answer. ``alert_key`` is an expression between search and view that has
    one value for what makes one alert and another for anything else; ``snap`` is the unit that the start of
    the look-back is rounded down to; ``edge``, where windows overlap, leaves out those of which the one
    before is not wholly in the look-back. For Enterprise Security: ``security_domain`` is what kind of
    finding it is, ``hosts`` maps the canonical fields that name a host, which is at risk itself, to what the
    CIM calls it, and ``entities`` are the fields that it attaches assets and identities to, with an
    expression of the view's columns for each. ``scheduled_search`` stands in for ``search`` where a scheduled
    one differs. ``needed``: what must be there, by the macro that finds it. ``allowing``: whether the
    results that a site has allowed are dropped.
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
    hosts: Mapping[str, str] = field(default_factory=dict)
    entities: Mapping[str, str] = field(default_factory=dict)
    edge: str | None = None
    needed: tuple[Prerequisite, ...] = ()
    scheduled_search: str | None = None
    allowing: bool = True

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
            self._shown(self.scheduled_search or self.search, self.alert_key),
            None if data_set is None else self._shown(data_set.text, data_set.alert_key) + NEWEST_FIRST,
            None if self.raw_search is None else self._shown(self.raw_search, self.alert_key),
        )

    def drill_downs(self) -> tuple[str | None, str | None, str | None]:
        """For the three forms a search for the events of the alert whose key replaces ``$AlertKey$``, without
        a time range. A key is a digest: what is in a log cannot end the string that it stands in."""
        data_set = self.data_set_search
        events = self.search.partition("\n| stats ")[0]
        return (
            self._drill_down(events, self.alert_key),
            None if data_set is None else self._drill_down(data_set.text, data_set.alert_key),
            None if self.raw_search is None else self._drill_down(self.raw_search, self.alert_key),
        )

    def _drill_down(self, search: str, key: str) -> str | None:
        timed = f"earliest=`{self.name}_lookback` latest=now"
        untimed = search.replace(f" WHERE {timed} BY ", " BY ").replace(f" {timed}", "")
        # No escape for a dollar sign is documented there.
        return None if "$" in untimed else f'{untimed}\n| where {key}="${ALERT_KEY}$"'

    def _shown(self, search: str, key: str | None = None) -> str:
        keyed, named, columns = [], [], list(COLUMNS)
        if key is not None:
            keyed = [*filter(None, [self.edge]), f"| eval {ALERT_KEY}={key}"]
            made = ", ".join(f"{name}={text}" for name, text in self.entities.items())
            named = [f"| eval {made}"] if made else []
            columns += [*self.entities, ALERT_KEY]
        allowed = [f"| `{exclusions()}`"] if self.allowing else []
        shown = [*named, f"| table {', '.join(columns)}", f"| `{self.name}_filter`"]
        return "\n".join([search, *keyed, self.view, *allowed, *shown]) + "\n"


@dataclass(frozen=True)
class _Searched:
    """The search of a rule, and the condition that its other forms are made of."""

    text: str
    condition: Predicate


@dataclass(frozen=True)
class _Grouped:
    """The search of a correlation, and as it is scheduled."""

    text: str
    scheduled: str


class _GroupsBackend(PackSplunkBackend):
    """Gives `_Grouped` for the text of a correlation."""

    def convert_correlation_rule(self, *given: Any, **options: Any) -> list[Any]:
        made = []
        for self.scheduled in (False, True):
            made += super().convert_correlation_rule(*given, **options)
        return [_Grouped(*made)]


class _FormsBackend(PackSplunkBackend):
    """Gives `_Searched` for text."""

    def finish_query(self, rule: Any, query: Any, state: ConversionState) -> Any:
        return _Searched(super().finish_query(rule, query, state), query)


def queries(rule: Rule, pipeline: Pipeline) -> SplunkQuery:
    """Convert one rule file. Raises `PackError` where SPL cannot say what the rule says."""
    shown = len(rule.alert.fields)
    # A correlation counts events, and the other forms have groups.
    several = rule.correlation is None
    backend = _FormsBackend if several else _GroupsBackend
    options: dict[str, Any] = {"prefix": rule.name, "shown": shown}
    if rule.correlation is not None:
        options |= {"windows": rule.correlation.overlapping, "firsts_only": rule.correlation.firsts_only}
    converted = convert(rule, pipeline, backend, **options)
    try:
        if len(converted.queries) != 1:
            raise RefusedValue("a list of conditions is several rules; write one condition", "condition")
        found: Any = converted.queries[0]
        text = found.text
        snap = _snap(rule)
        back, edge = f"-{lookback(rule)}@{snap}", None
        macros = {f"{rule.name}_lookback": back}
        if rule.correlation is not None:
            length = span(rule.correlation.timespan)
            if (windows := rule.correlation.overlapping) is None:
                macros[f"{rule.name}_window"] = length
            else:
                macros |= {
                    f"{rule.name}_since": f'relative_time({DUE}, "{back}")',
                    f"{rule.name}_step": f"{windows.step}",
                }
                edge = f"| addinfo\n| where _time-`{rule.name}_step`>=`{rule.name}_since`"
            macros[f"{rule.name}_threshold"] = f"{rule.correlation.threshold}"
        macros[f"{rule.name}_filter"] = KEEP_ALL
        view = _view(rule, converted, text)
        key = EVENT_KEY
        if rule.correlation is not None:
            key = alert_key([converted.fields[name] for name in rule.correlation.group_by])
        hosts: Mapping[str, str] = converted.state.get("host_fields") or {}
        query = SplunkQuery(
            rule.name,
            text,
            view,
            macros,
            source_macros(converted.state),
            key,
            snap,
            security_domain=str(converted.state.get("security_domain") or "threat"),
            hosts=hosts,
            entities=_entities(rule, converted, hosts),
            edge=edge,
            needed=of_state(converted.state),
            scheduled_search=None if several else found.scheduled,
            allowing=rule.tier != INVESTIGATION,
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


def _entities(rule: Rule, converted: Converted, hosts: Mapping[str, str]) -> dict[str, str]:
    """``user``, and a host by its name in the CIM or an address as ``src``, from the columns that show them;
    what these join is several values again."""
    shown = _Shown(converted, rule.correlation)
    place = hosts.get(rule.alert.source or "", "src")
    named = (("user", "UserId", rule.alert.user), (place, "ClientIP", rule.alert.source))
    return {
        name: f'split({column}, ", ")' if shown.joins(canonical) else column
        for name, column, canonical in named
        if canonical is not None
    }


def _snap(rule: Rule) -> str:
    """A look-back that starts in the middle of a clock window counts a part of it, as if that were all."""
    correlation = rule.correlation
    long = correlation is not None and correlation.overlapping is None and correlation.window > 3600
    return "d" if long else "h"


def lookback(rule: Rule) -> str:
    """How far back a search looks, in whole hours: by as long as an arrival waits for its run more than the
    rule says, so that what is as late as that is found. Where windows overlap it is a window and two steps
    more, so that the first window of a burst is seen whole, and the one before it; of windows of days one
    more."""
    seconds = Timespan.parse(rule.lookback).seconds + LONGEST_WAIT
    if rule.correlation is not None and (windows := rule.correlation.overlapping) is not None:
        seconds += windows.width + windows.step
    elif rule.correlation is not None and rule.correlation.window > SECONDS["h"]:
        seconds += rule.correlation.window
    return f"{-(-seconds // SECONDS['h'])}h"


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

    def joins(self, canonical: str) -> bool:
        """Whether a field may have several values, which are shown as one text."""
        if self.correlation is not None:
            return canonical not in self.correlation.group_by
        name = self.converted.fields[canonical]
        return is_multivalue(self.file_names.get(name, name))

    def column(self, canonical: str) -> str:
        name = self.converted.fields[canonical]
        joined = self.joins(canonical)
        if self.correlation is not None:
            column = plain_name(name)
        else:
            name = self.file_names.get(name, name)
            column = eval_field(name)
        if joined:
            column = f'mvjoin({column}, ", ")'
        return f'coalesce({column},"")'

    def placeholder(self, text: str) -> str:
        if self.correlation is not None and text == "count":
            return COUNT
        if self.correlation is not None and text == "window":
            return eval_string(self.correlation.timespan)
        return self.column(text)

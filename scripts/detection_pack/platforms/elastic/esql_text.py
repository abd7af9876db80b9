"""The text of an ES|QL query: names, strings, and the alert view around a correlation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.rule import BY_HAND, AlertView, Correlation, Rule
from detection_pack.model.timespan import SECONDS, Timespan
from detection_pack.model.windows import Overlapping
from detection_pack.platforms.elastic.conditions import stated_type

#: Result columns before the grouping fields: the time and the reference query's six others.
COLUMNS = ("time", *AlertView.COLUMNS)
WINDOW = "window"
#: The values of all groups as one, where they are too many for Kibana to suppress alerts by each
#: (before 9.2 it takes three fields, and one is the window).
GROUP_KEY = "group_key"
MOST_GROUPS = 2
#: Milliseconds from an event back to a window that it counts in, and from a window on to the next.
_BACK, _ON = "window_back", "window_on"
#: Which of the rules a row is of, where they have aliases.
_RULE = "rule_number"
_RESERVED = frozenset(
    ("and", "asc", "by", "desc", "false", "first", "in", "is", "last", "like", "metadata", "not", "null")
) | {"nulls", "on", "or", "rlike", "true", "where", "with"}
#: Where Kibana has the look-back: in a rule, and in Discover for what a person runs.
_OF_RULES = 'the rule\'s own "from" in Kibana'
_WHERE_FROM = dict.fromkeys(BY_HAND, "the time range of Discover")
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


@dataclass(frozen=True)
class Counted:
    """What a correlation counts: the column's name and its aggregate; None counts the rules that matched.
    ``ordered``: whether the first event of the first of two rules must not be after the last of the other."""

    column: str
    aggregate: str | None
    ordered: bool = False


def name(field: str) -> str:
    """A field name; a part is quoted if it is no plain identifier."""
    parts = field.split(".")
    return ".".join(p if _plain(p) else f"`{p.replace('`', '``')}`" for p in parts)


def _plain(part: str) -> bool:
    """Whether it may stand bare (Elasticsearch's Expression.g4); a word of the language may not."""
    identifier = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*|[_@][A-Za-z0-9_]+", part)
    return identifier is not None and part.lower() not in _RESERVED


def string(text: str) -> str:
    """A string literal: ES|QL knows ``\\\\ \\" \\n \\r \\t``; every other character stands for itself."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def compose(
    rule: Rule,
    state: Mapping[str, Any],
    wheres: Sequence[str],
    counted: Counted,
    operator: str,
    threshold: float,
    fields: Mapping[str, str],
    facts: Correlation,
    aliases: Mapping[str, Sequence[str]],
) -> str:
    """The whole query. ``fields``: canonical to platform names of the view and the grouping. ``aliases``: of
    each column that is an alias its expression for each rule."""
    types: Mapping[str, str] = state.get("field_types") or {}
    identities = tuple(state.get("identity_fields") or ())
    groups = [fields[g] for g in facts.group_by]
    folded = [f"{name(g)} = TO_LOWER({name(g)})" for g in groups if g in identities]
    length = _span(facts)
    windows = facts.overlapping
    evals = [f"{WINDOW} = DATE_TRUNC({length}, @timestamp)"]
    expanded: list[str] = []
    if windows is not None:
        expanded = _listed(_BACK, (place * windows.step for place in windows.places))
        start = f"DATE_TRUNC({_counted(Timespan(windows.step))}, @timestamp)"
        evals = [f"{WINDOW} = TO_DATETIME(TO_LONG({start}) - {_BACK})"]
    stats = ["time = MIN(@timestamp)"]
    if counted.aggregate is None:
        conditions = [f"{_RULE} == {i}" for i, _ in enumerate(wheres)] if _differ(aliases) else wheres
        evals += [f"in_{i} = CASE({where}, 1, 0)" for i, where in enumerate(conditions)]
        stats = [f"in_{i} = MAX(in_{i})" for i in range(len(wheres))] + stats
        if counted.ordered:
            evals += [f"at_{i} = CASE({where}, @timestamp, null)" for i, where in enumerate(conditions)]
            stats += ["first_0 = MIN(at_0)", "last_1 = MAX(at_1)"]
    else:
        stats = [f"{counted.column} = {counted.aggregate}", *stats]
    evals += folded  # after the conditions, which see letter case
    seen = _Seen(groups, types)
    view = _view(rule, fields, seen, counted, facts)
    keyed = [GROUP_KEY] if len(groups) > MOST_GROUPS else []
    if keyed:
        view.append(f"{GROUP_KEY} = CONCAT({f', {string(chr(9))}, '.join(map(seen.text, groups))})")
    stats += seen.aggregates
    corrected: Mapping[str, str] = state.get("corrected_fields") or {}
    corrections = [
        f"| EVAL {name(field)} = {expression}"
        for field, expression in corrected.items()
        if field in fields.values() or any(name(field) in where for where in wheres)
    ]
    lines = [
        f"// {_comment(rule.title)} ({rule.name})",
        *([f"// {_comment(rule.credit)}"] if rule.credit else []),
        f"// tune: the look-back ({rule.lookback}) is {_WHERE_FROM.get(rule.tier, _OF_RULES)}",
        f"FROM {', '.join(_index(state))}",
        *corrections,
        f"| WHERE {wheres[0] if len(wheres) == 1 else ' OR '.join(f'({w})' for w in wheres)}",
        *_named(wheres, aliases),
        "// tune: the window" if windows is None else f"// the window, {length}, in steps",
        *expanded,
        f"| EVAL {', '.join(evals)}",
        f"| STATS {', '.join(stats)} BY {', '.join([*map(name, groups), WINDOW])}",
    ]
    if counted.aggregate is None:
        lines.append(f"| EVAL {counted.column} = {' + '.join(f'in_{i}' for i in range(len(wheres)))}")
    lines += [
        "// tune: the threshold",
        f"| WHERE {counted.column} {operator} {threshold}",
        *(["| WHERE first_0 <= last_1"] if counted.ordered else []),
        *(_firsts(windows, counted, seen, groups) if windows is not None and facts.firsts_only else []),
        f"| EVAL {', '.join(view)}",
        f"| KEEP {', '.join([*COLUMNS, *map(name, groups), WINDOW, counted.column, *keyed])}",
        "| SORT time DESC",
    ]
    return "\n".join(lines) + "\n"


def events_query(rule: Rule, state: Mapping[str, Any], where: str, fields: Mapping[str, str]) -> str:
    """A query for the events themselves, newest first, with the fields of the alert view (canonical to
    platform names); an object is shown by the fields below it that are named, and otherwise left out."""
    types: Mapping[str, str] = state.get("field_types") or {}
    below: Mapping[str, Sequence[str]] = state.get("shown_fields") or {}
    viewed = [fields[one] for one in rule.alert.fields if one in fields]
    shown = [leaf for field in viewed for leaf in below.get(field, (field,))]
    # A field that no mapping states is an unknown column until a record has brought it.
    kept = [field for field in dict.fromkeys(shown) if types.get(field, "object") != "object"]
    corrected: Mapping[str, str] = state.get("corrected_fields") or {}
    corrections = [
        f"| EVAL {name(field)} = {expression}"
        for field, expression in corrected.items()
        if field in kept or name(field) in where
    ]
    lines = [
        f"// {_comment(rule.title)} ({rule.name})",
        f"// the look-back ({rule.lookback}) is {_WHERE_FROM.get(rule.tier, _OF_RULES)}",
        f"FROM {', '.join(_index(state))}",
        *corrections,
        f"| WHERE {where}",
        f"| KEEP {', '.join(map(name, ['@timestamp', *kept]))}",
        "| SORT @timestamp DESC",
    ]
    return "\n".join(lines) + "\n"


def _differ(aliases: Mapping[str, Sequence[str]]) -> bool:
    return any(len(set(texts)) > 1 for texts in aliases.values())


def _named(wheres: Sequence[str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """An event once for each rule that it matches, as an alias may mean another field in each."""
    if not aliases:
        return []
    if not _differ(aliases):
        return [f"| EVAL {', '.join(f'{column} = {texts[0]}' for column, texts in aliases.items())}"]
    numbers = ", ".join(map(str, range(len(wheres))))
    found = " OR ".join(f"({_RULE} == {number} AND ({where}))" for number, where in enumerate(wheres))
    made = [f"{column} = {_by_rule(texts)}" for column, texts in aliases.items()]
    return [
        f"| EVAL {_RULE} = [{numbers}]",
        f"| MV_EXPAND {_RULE}",
        f"| WHERE {found}",
        f"| EVAL {', '.join(made)}",
    ]


def _by_rule(texts: Sequence[str], number: int = 0) -> str:
    """The text of the rule that a row is of."""
    if number == len(texts) - 1:
        return texts[number]
    return f"CASE({_RULE} == {number}, {texts[number]}, {_by_rule(texts, number + 1)})"


def _listed(column: str, seconds: Iterable[int]) -> list[str]:
    """A row for each of these lengths, in milliseconds."""
    values = ", ".join(str(1000 * length) for length in seconds)
    return [f"| EVAL {column} = [{values}]", f"| MV_EXPAND {column}"]


def _firsts(windows: Overlapping, counted: Counted, seen: _Seen, groups: Sequence[str]) -> list[str]:
    """Of the windows in which the condition holds those that follow none: each marks the one after it. What
    is left is the only row of its group, so that its greatest value is the value."""
    shown = [column.split(" = ")[0] for column in seen.aggregates]
    kept = [f"{column} = MAX({column})" for column in (counted.column, "time", _ON)]
    kept += [f"{column} = VALUES({column})" for column in shown]
    return [
        "// of windows one after the other the first",
        *_listed(_ON, (0, windows.step)),
        f"| EVAL {WINDOW} = TO_DATETIME(TO_LONG({WINDOW}) + {_ON})",
        f"| STATS {', '.join(kept)} BY {', '.join([*map(name, groups), WINDOW])}",
        f"| WHERE {_ON} == 0",
    ]


class _Seen:
    """How the alert shows a field after STATS: a grouping field itself, any other as its values joined."""

    def __init__(self, groups: Sequence[str], types: Mapping[str, str]) -> None:
        self._groups = groups
        self._types = types
        self.aggregates: list[str] = []
        self._columns: dict[str, str] = {}

    def text(self, field: str) -> str:
        if stated_type(self._types, field) == "object":
            raise RefusedValue(f'"{field}" is an object; an ES|QL alert can show single fields only', field)
        is_text = (stated_type(self._types, field) or "keyword") in ("keyword", "wildcard")
        shown = name(field) if is_text else f"TO_STRING({name(field)})"
        if field in self._groups:
            return f'COALESCE({shown}, "")'
        if field not in self._columns:
            self._columns[field] = f"seen_{len(self._columns)}"
            self.aggregates.append(f"{self._columns[field]} = VALUES({shown})")
        return f'COALESCE(MV_CONCAT(MV_SORT({self._columns[field]}), ", "), "")'


def _view(
    rule: Rule, fields: Mapping[str, str], seen: _Seen, counted: Counted, facts: Correlation
) -> list[str]:
    def shown(field: str) -> str:
        return seen.text(fields[field])

    def placeholder(name: str) -> str:
        if name == "count":
            return f"TO_STRING({counted.column})"
        return string(facts.timespan) if name == "window" else shown(name)

    def joined(parts: list[str]) -> str:
        return f"CONCAT({', '.join(parts)})" if len(parts) > 1 else (parts or ['""'])[0]

    view = rule.alert.expressions(string, shown, placeholder, joined)
    return [f"{column} = {expression}" for column, expression in view.items()]


def _span(facts: Correlation) -> str:
    """Fixed lengths only: a month or a year is not one. Several days are said in hours, as 7 days are a week
    of the calendar to Elasticsearch, from Monday on (DateTrunc.createRounding)."""
    unit = facts.timespan[-1:]
    if unit not in _UNITS:
        raise RefusedValue(f'a window of "{facts.timespan}" is not supported; use s, m, h or d', "timespan")
    return _counted(Timespan.parse(facts.timespan), unit)


def _counted(length: Timespan, unit: str = "") -> str:
    """A length in ``unit``, or the largest that says it exactly, as ES|QL writes it."""
    unit = unit or length.counted()[1]
    amount = length.seconds // SECONDS[unit]
    if unit == "d" and amount != 1:
        return f"{24 * amount} hours"
    return f"{amount} {_UNITS[unit]}{'' if amount == 1 else 's'}"


#: The line of a Kibana rule that leaves out the first windows of its look-back.
_EDGE = re.compile(rf"^\| WHERE {WINDOW} > NOW\(\) - .+\n", re.MULTILINE)


def scheduled(query: str, reach: Timespan) -> str:
    """A query whose windows overlap as a rule runs it: a window alerts that started less than ``reach`` ago,
    so that the one before it is wholly seen, whatever the look-back cuts off."""
    head, found, view = query.rpartition(f"| EVAL {AlertView.COLUMNS[0]} = ")
    return f"{head}| WHERE {WINDOW} > NOW() - {_counted(reach)}\n{found}{view}"


def unscheduled(query: str) -> str:
    """The query without that line, for a look-back that is not the rule's own."""
    return _EDGE.sub("", query)


def _index(state: Mapping[str, Any]) -> list[str]:
    stated = state.get("index") or ["*"]
    return [str(i) for i in (stated if isinstance(stated, list) else [stated])]


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)

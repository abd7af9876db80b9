"""Sigma correlations as ``stats`` by group and window.

A rule that asks for windows of the clock, as the reference does, is counted by ``bin``. In any other windows
overlap: ``mvexpand`` puts an event into each window that it stands in, and of windows one after the other in
which the condition holds the first is left: each marks its successor, and what is marked is dropped. What
``mvexpand`` may hold in memory is limited, so it is given no more fields than are counted or shown.

A scheduled search (``scheduled``) also asks of every window whether the condition held in it before the
arrivals of the run (`index_times`), and drops the burst, which is windows one after the other, if it did in
any of them: its alert has been raised. ``streamstats`` numbers the bursts, ``eventstats`` looks at each as a
whole. So a burst that grows, at whichever end, raises no second alert.

``stats`` gives no group to an event whose group field is null (Search Reference, "stats"), so group fields
are made text first. Fields that name a person are counted and grouped without regard to case. The first
aggregate of the ``stats`` is what the rule counts; the tests and the replay rely on that order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationType

from detection_pack.languages.spl.spl_literals import eval_field, eval_string
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.windows import Overlapping
from detection_pack.platforms.splunk.index_times import ARRIVED, ARRIVED_BEFORE, DUE
from detection_pack.platforms.splunk.predicates import is_multivalue

#: The fields that a correlation adds to its rows.
COUNT = "matched_count"
FIRST_SEEN = "first_seen"
MARKER = "matched_rule"
#: Steps from where an event stands back to a window that it counts in, and from a window on to the next.
BACK, ON = "steps_back", "steps_on"
#: The values of several fields that are counted together.
TOGETHER = "counted_together"
#: What a scheduled search needs besides.
BEFORE, COUNT_BEFORE, ROWS_BEFORE = "arrived_before", "count_before", "rows_before"
ALERTED, PREVIOUS, BEGINS, BURST = "alerted_before", "previous_window", "burst_begins", "burst_number"
_OWN = {BEFORE, COUNT_BEFORE, ROWS_BEFORE, ALERTED, PREVIOUS, BEGINS, BURST, DUE}

OPERATORS = {"GTE": ">=", "GT": ">", "LTE": "<=", "LT": "<", "EQ": "=", "NEQ": "!="}

#: `dc` is exact, `estdc` is not (Search Reference, "Aggregate functions").
AGGREGATES = {
    SigmaCorrelationType.EVENT_COUNT: "count",
    SigmaCorrelationType.VALUE_COUNT: "dc({field})",
    SigmaCorrelationType.VALUE_SUM: "sum({field})",
    SigmaCorrelationType.VALUE_AVG: "avg({field})",
    SigmaCorrelationType.TEMPORAL: f"dc({MARKER})",
    SigmaCorrelationType.TEMPORAL_ORDERED: f"dc({MARKER})",
}


def correlated(
    rule: Any,
    bases: Sequence[tuple[str, str]],
    state: Mapping[str, Any],
    prefix: str,
    shown: Sequence[str],
    windows: Overlapping | None = None,
    firsts_only: bool = False,
    scheduled: bool = False,
) -> str:
    """The search of a correlation over the searches of its rules, ``bases``: (rule, text).

    ``shown`` are the platform's fields of the alert view, kept as sets of values; ``windows`` and
    ``firsts_only`` as in `Correlation`. ``scheduled``: each burst once, in the run that it is complete in.
    """
    condition = rule.condition
    if not isinstance(condition, SigmaCorrelationCondition):
        raise RefusedValue("SPL has no exact form of an extended correlation condition", "condition")
    if rule.type not in AGGREGATES:
        # perc, exactperc and median follow [stats] perc_method of limits.conf: nearest rank or interpolated.
        raise RefusedValue(
            f"{rule.type.name.lower()} depends on a setting of the Splunk server (perc_method)", "type"
        )
    if rule.timespan.unit not in "smhd":
        raise RefusedValue("a window of weeks, months or years has no fixed clock window in SPL", "timespan")
    group = list(rule.group_by or [])
    stated = condition.fieldref
    together = list(stated) if isinstance(stated, list) and len(stated) > 1 else []
    value = TOGETHER if together else stated[0] if isinstance(stated, list) else stated
    if value is None and "{field}" in AGGREGATES[rule.type]:
        raise RefusedValue("names no field to count the values of", "condition")
    for name in [*group, *([value] if value else []), *together]:
        if is_multivalue(name):
            raise RefusedValue("a field that holds several values can be neither grouped nor counted", name)
    kept = [name for name in dict.fromkeys(shown) if name not in group]
    aggregates = [f"{AGGREGATES[rule.type].format(field=plain_name(value or ''))} AS {COUNT}"]
    aggregates.append(f"min({FIRST_SEEN}) AS {FIRST_SEEN}")
    aggregates += [f"values({plain_name(n)}) AS {plain_name(n)}" for n in kept]
    names = [plain_name(n) for n in dict.fromkeys([*group, *([value] if value else []), *kept])]
    if len(set(names)) != len(names) or ({COUNT, FIRST_SEEN, MARKER, BACK, ON} | _OWN) & set(names):
        raise RefusedValue("two fields of the correlation would get one name in SPL", "group-by")
    ordered = rule.type == SigmaCorrelationType.TEMPORAL_ORDERED
    if ordered:
        aggregates += _order_times(bases)
    if scheduled:
        aggregates += _before(rule.type, plain_name(value or ""), bases)
    lines = [_searches(bases, rule.type)]
    derived = dict(state.get("derived_fields") or {})
    used = dict.fromkeys([*group, *([value] if value else []), *together, *kept])
    computed = [f"| eval {eval_field(n)}={derived[n]}" for n in used if n in derived]
    lines += [line for line in computed if not all(line in text.split("\n") for _, text in bases)]
    people = frozenset(state.get("identity_fields") or ())
    lines += [_joined(together, people)] if together else []
    lines += _prepared(group, value, kept, people)
    enough = f"{OPERATORS[condition.op.name]}`{prefix}_threshold`"
    if scheduled:
        lines += ["| addinfo", f"| where {ARRIVED}", f"| eval {BEFORE}=if({ARRIVED_BEFORE},1,0)"]
    needed = [*([MARKER] if MARKER in lines[0] else []), *([BEFORE] if scheduled else []), *names]
    lines += [
        f"| eval {FIRST_SEEN}=_time",
        *_windows(windows, prefix, needed),
        f"| stats {', '.join(aggregates)} BY {', '.join(['_time', *map(plain_name, group)])}",
        f"| where {COUNT}{enough}" + (" AND earliest_first<=latest_second" if ordered else ""),
    ]
    if scheduled:
        held = f"{ROWS_BEFORE}>0 AND {COUNT_BEFORE}{enough}"
        held += " AND earliest_first_before<=latest_second_before" if ordered else ""
        lines.append(f"| eval {ALERTED}=if({held},1,0)")
    if windows is not None and firsts_only:
        bursts = _new_bursts if scheduled else _firsts
        lines += bursts(prefix, [plain_name(name) for name in group], [plain_name(name) for name in kept])
    elif scheduled:
        lines.append(f"| where {ALERTED}=0")
    return "\n".join(lines)


def _windows(windows: Overlapping | None, prefix: str, names: Sequence[str]) -> list[str]:
    """The start of the window as `_time`; where windows overlap, a row for each that an event stands in."""
    if windows is None:
        return [f"| bin _time span=`{prefix}_window`"]
    step = f"`{prefix}_step`"
    return [
        f"| fields {', '.join(['_time', FIRST_SEEN, *names])}",
        "| fields - _raw",
        f"| eval {BACK}=mvrange(0, {len(windows.places)})",
        f"| mvexpand {BACK}",
        f"| eval _time=(floor(_time/{step})-{BACK})*{step}",
    ]


def _firsts(prefix: str, group: Sequence[str], kept: Sequence[str]) -> list[str]:
    """Of the windows in which the condition holds those that follow none. One that is left is the only row of
    its group, so that its greatest value is the value."""
    columns = [f"max({COUNT}) AS {COUNT}", f"min({FIRST_SEEN}) AS {FIRST_SEEN}"]
    columns += [f"values({name}) AS {name}" for name in kept]
    return [
        f"| eval {ON}=mvrange(0, 2)",
        f"| mvexpand {ON}",
        f"| eval _time=_time+{ON}*`{prefix}_step`",
        f"| stats {', '.join([*columns, f'max({ON}) AS {ON}'])} BY {', '.join(['_time', *group])}",
        f"| where {ON}=0",
    ]


def _new_bursts(prefix: str, group: Sequence[str], kept: Sequence[str]) -> list[str]:
    """As `_firsts`, and of bursts that have not alerted."""
    by = f" BY {', '.join(group)}" if group else ""
    return [
        "| sort 0 _time",
        f"| streamstats current=f max(_time) AS {PREVIOUS}{by}",
        f"| eval {BEGINS}=if(_time-coalesce({PREVIOUS},0)>`{prefix}_step`,1,0)",
        f"| streamstats sum({BEGINS}) AS {BURST}{by}",
        f"| eventstats max({ALERTED}) AS {ALERTED} BY {', '.join([*group, BURST])}",
        f"| where {BEGINS}=1 AND {ALERTED}=0",
    ]


def _before(kind: SigmaCorrelationType, value: str, bases: Sequence[tuple[str, str]]) -> list[str]:
    """What the condition is about, of what had arrived before."""
    counted = AGGREGATES[kind]
    if counted == "count":
        counted = f"sum({BEFORE})"
    else:
        field = MARKER if MARKER in counted else value
        counted = f"{counted.partition('(')[0]}(eval(if({BEFORE}=1,{field},null())))"
    found = [f"{counted} AS {COUNT_BEFORE}", f"sum({BEFORE}) AS {ROWS_BEFORE}"]
    if kind == SigmaCorrelationType.TEMPORAL_ORDERED:
        found += _order_times(bases, f" AND {BEFORE}=1", "_before")
    return found


def alert_key(group: Sequence[str]) -> str:
    """What makes an alert of a correlation the one that it is, before the view: its window and its group."""
    return "md5(" + ".".join(['_time."|"', *(f'{plain_name(name)}."|"' for name in group)]) + ")"


def _searches(bases: Sequence[tuple[str, str]], kind: SigmaCorrelationType) -> str:
    """One search, or several at once. `multisearch` takes streaming commands only: search, eval and where
    are (Search Reference, "multisearch")."""
    marked = kind in (SigmaCorrelationType.TEMPORAL, SigmaCorrelationType.TEMPORAL_ORDERED)
    texts = [text + (f"\n| eval {MARKER}={eval_string(name)}" if marked else "") for name, text in bases]
    if len(texts) == 1:
        return texts[0]
    indented = ["  [ search " + text.replace("\n", "\n    ") + " ]" for text in texts]
    return "| multisearch\n" + "\n".join(indented)


def _prepared(
    group: Sequence[str], value: str | None, kept: Sequence[str], folded: frozenset[str]
) -> list[str]:
    """Group fields as text, people in lower case, and every field under a name that needs no quotes."""
    texts = [f"{plain_name(n)}=" + _folded(f'coalesce({eval_field(n)},"")', n in folded) for n in group]
    taken = set(group)
    if value is not None and value not in taken and (value in folded or plain_name(value) != value):
        texts.append(f"{plain_name(value)}={_folded(eval_field(value), value in folded)}")
        taken.add(value)
    texts += [f"{plain_name(n)}={eval_field(n)}" for n in kept if plain_name(n) != n and n not in taken]
    return [f"| eval {', '.join(texts)}"] if texts else []


def _joined(fields: Sequence[str], folded: frozenset[str]) -> str:
    """The values of several fields as one, where all are there; a tab between them, so that ("ab", "c") is
    not ("a", "bc")."""
    there = " AND ".join(f'coalesce({eval_field(n)},"")!=""' for n in fields)
    text = f".{eval_string(chr(9))}.".join(_folded(eval_field(n), n in folded) for n in fields)
    return f"| eval {TOGETHER}=if({there},{text},null())"


def plain_name(name: str) -> str:
    """A field name without characters that need quotes, for the fields of a correlation's rows."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")


def _folded(expression: str, fold: bool) -> str:
    return f"lower({expression})" if fold else expression


def _order_times(bases: Sequence[tuple[str, str]], also: str = "", suffix: str = "") -> list[str]:
    """Two rules in order: the first time of the one is not after the last time of the other."""
    if len(bases) != 2:
        raise RefusedValue("SPL decides the order of two rules, not of more", "rules")
    first, second = (eval_string(name) for name, _ in bases)
    return [
        f"min(eval(if({MARKER}={first}{also},{FIRST_SEEN},null()))) AS earliest_first{suffix}",
        f"max(eval(if({MARKER}={second}{also},{FIRST_SEEN},null()))) AS latest_second{suffix}",
    ]


def span(timespan: str) -> str:
    """A Sigma timespan as the span of ``bin``: s, m, h and d mean the same in both."""
    if timespan[-1:] not in tuple("smhd"):
        raise RefusedValue("a window of weeks, months or years has no fixed clock window in SPL", timespan)
    return timespan

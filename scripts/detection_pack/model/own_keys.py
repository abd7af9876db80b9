"""Faults of the pack's own keys: the alert view, the look-back, and what queries take as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from detection_pack.model.detections import Fault, Keys, leaves
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.limits import MAX_COUNT
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.reading import Reading
from detection_pack.model.rule import INVESTIGATION, AlertView, Rule
from detection_pack.model.timespan import Timespan
from detection_pack.model.windows import CLOCK

ALERT, PARAMETER = "alert-view", "parameter"
#: A timespan as Sigma writes it, in ASCII: pySigma takes whatever Python's ``int`` takes.
_TIMESPAN = re.compile(r"[1-9][0-9]{0,5}[smhdwMy]")
_KEYS = ("type", "detail", *AlertView.FIELDS.values())
#: Keys that are read as lists of text: ours, of which pySigma knows nothing, and those inside a correlation,
#: whose members it does not look at.
_LISTS: tuple[Keys, ...] = (
    ("required_tables",),
    ("data_sources",),
    ("correlation", "rules"),
    ("correlation", "group-by"),
    ("correlation", "condition", "field"),
)


def own_key_faults(reading: Reading, rule: Rule) -> Iterator[Fault]:
    """Every fault of these keys of ``rule``, the reading's."""
    yield from _alert(reading, rule)
    yield from _lists(reading, rule)
    yield from _absent(reading, rule)
    yield from _seen_today(reading, rule)
    yield from _parameters(reading, rule)
    yield from _asked(reading, rule)


def _alert(reading: Reading, rule: Rule) -> Iterator[Fault]:
    main = rule.main
    stated = main.data.get("alert")
    if stated is None and not reading.in_pack:
        return

    def fault(keys: Keys, what: str, todo: str) -> Fault:
        # An alert view that lacks a part is none.
        return Fault(reading.at(ALERT, main, keys, what, todo), main, ("alert",))

    if not isinstance(stated, dict):
        yield fault(("alert",), 'has no "alert:" view', 'add "alert:" with type, detail, user and source')
        return
    for key in stated:
        if key not in _KEYS:
            yield fault(("alert", key), f'"alert:" has no "{key}"', f"use {', '.join(_KEYS)}")
    named = set(re.findall(r"\{([^{}]*)\}", str(stated.get("detail"))))
    if "correlation" not in main.data and named & {"count", "window"}:
        what = "names {count} or {window}, which only a correlation has"
        yield fault(("alert", "detail"), what, "name a field")
    for key in ("type", "detail"):
        if not isinstance(stated.get(key), str):
            yield fault(("alert", key), f'"alert:" has no "{key}"', f'add "{key}:" with text')
    for key in AlertView.FIELDS.values():
        if not isinstance(stated.get(key), str | None):
            yield fault(("alert", key), f'"{key}" of "alert:" is not text', "write the name of a field")


def _lists(reading: Reading, rule: Rule) -> Iterator[Fault]:
    for keys in _LISTS:
        value: Any = rule.main.data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        listed = value if isinstance(value, list) else [] if value is None else [value]
        one = keys[0] == "correlation"
        if not all(isinstance(text, str) for text in listed) or (isinstance(value, str) and not one):
            what = f'"{keys[-1]}:" is not a list of text'
            yield reading.fault(PARAMETER, rule.main, keys, what, "write one text a line")


def _absent(reading: Reading, rule: Rule) -> Iterator[Fault]:
    """The platforms that a rule is not for."""
    stated = rule.main.data.get("absent")
    if stated is not None and not isinstance(stated, dict):
        what, todo = (
            '"absent:" is not a mapping',
            "write the platform and the reason, such as defender: no table",
        )
        yield reading.fault(PARAMETER, rule.main, ("absent",), what, todo)
        return
    for name, why in (stated or {}).items():
        if name not in PLATFORMS:
            what = f'"{name}" is not a platform'
            yield reading.fault(PARAMETER, rule.main, ("absent", name), what, f"use {', '.join(PLATFORMS)}")
        elif not isinstance(why, str) or not why.strip():
            what, todo = f'"absent:" gives no reason for {name}', "say in one line why it has no such rule"
            yield reading.fault(PARAMETER, rule.main, ("absent", name), what, todo)
    if set(PLATFORMS) <= set(stated or {}):
        what, todo = "is for no platform", "leave one out of absent"
        yield reading.fault(PARAMETER, rule.main, ("absent",), what, todo)


def _asked(reading: Reading, rule: Rule) -> Iterator[Fault]:
    """What an investigation query asks for: its name, and the value that stands in the detection."""
    if rule.tier != INVESTIGATION:
        return
    stated = rule.main.data.get("parameter")
    fine = isinstance(stated, dict) and set(stated) == {"name", "value"}
    held = {str(v) for d in rule.documents for leaf in leaves(d) for _, v in leaf.values}
    if not fine or not all(isinstance(one, str) and one.strip() for one in stated.values()):
        what, todo = '"parameter:" lacks a part', "write name: account and value: the value of the detection"
        yield reading.fault(PARAMETER, rule.main, ("parameter",), what, todo)
    elif stated["value"] not in held:
        what = f'"{stated["value"]}" is not a value of the detection'
        yield reading.fault(PARAMETER, rule.main, ("parameter", "value"), what, "write the one to fill in")


def _seen_today(reading: Reading, rule: Rule) -> Iterator[Fault]:
    """What a rule's values are worth today: where, when that was read, and a text a value."""
    stated = rule.main.data.get("seen_today")
    if stated is None:
        return
    fine = (
        isinstance(stated, dict)
        and set(stated) == {"in", "read", "values"}
        and isinstance(stated["in"], str)
        and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(stated["read"])) is not None
        and isinstance(stated["values"], dict)
        and all(isinstance(said, str) and said.strip() for said in stated["values"].values())
    )
    if not fine:
        what, todo = '"seen_today:" lacks a part', "write in: a text, read: a date, values: a text for each"
        yield reading.fault(PARAMETER, rule.main, ("seen_today",), what, todo)
        return


def stale_notes(reading: Reading, findings: Iterable[Finding]) -> list[Finding]:
    """Notes of ``seen_today`` whose value has left the rule. None where a value without a note is at fault
    itself, by ``findings``: a misspelt value, or one that is still to be filled in, is the one fault."""
    rule = reading.rule
    stated = None if rule is None else rule.main.data.get("seen_today")
    if rule is None or not isinstance(stated, dict) or not isinstance(stated.get("values"), dict):
        return []
    held = [(d, leaf, keys, str(v)) for d in rule.documents for leaf in leaves(d) for keys, v in leaf.values]
    noted, known = set(map(str, stated["values"])), {value for *_, value in held}
    faulty = {(f.path, f.line) for f in findings if f.severity == "error"}
    unnoted = {(str(d.path_of(*keys)), d.line(*keys)) for d, _, keys, value in held if value not in noted}
    if unnoted & faulty:
        return []
    todo = "write a value as its detection has it"
    return [
        reading.at(
            PARAMETER,
            rule.main,
            ("seen_today", "values", value),
            f'"{value}" is not a value of the rule',
            todo,
        )
        for value in stated["values"]
        if str(value) not in known
    ]


def _parameters(reading: Reading, rule: Rule) -> Iterator[Fault]:
    """A look-back and a threshold are written into queries as they stand: nothing else may be there."""
    main = rule.main

    def fault(keys: Keys, what: str, todo: str) -> Fault:
        return reading.fault(PARAMETER, main, keys, what, todo)

    if not any(c.isprintable() and not c.isspace() for c in rule.title):
        yield fault(("title",), "has an empty title", "say what the rule finds")
    if not isinstance(main.data.get("whole_terms", True), bool):
        yield fault(
            ("whole_terms",), f'says "whole_terms: {main.data["whole_terms"]}"', "write true or false"
        )
    if (stated := main.data.get("windows", CLOCK)) != CLOCK:
        yield fault(("windows",), f'says "windows: {stated}"', f"write {CLOCK}, or leave it out")
    elif "windows" in main.data and "correlation" not in main.data:
        yield fault(("windows",), "has windows and counts nothing", "leave it out")
    usable = re.fullmatch(r"[1-9][0-9]{0,3}[dhm]", rule.lookback)
    if not usable:
        what, todo = f'"{rule.lookback}" is not a look-back', 'write a number and d, h or m, such as "24h"'
        yield fault(("lookback",), what, todo)
    try:
        correlation = rule.correlation
    except PackError:
        return  # a fault of Sigma, and found as one
    if correlation is None:
        return
    if type(correlation.threshold) is not int or not 0 <= correlation.threshold <= MAX_COUNT:
        what, todo = f'"{correlation.threshold}" is not a count', f"write a whole number up to {MAX_COUNT:,}"
        yield fault(("correlation", "condition", correlation.operator), what, todo)
    place: Keys = ("correlation", "timespan")
    if not _TIMESPAN.fullmatch(correlation.timespan):
        what, todo = f'"{correlation.timespan}" is not a timespan', 'write a number and a unit, such as "1h"'
        yield fault(place, what, todo)
    elif usable and correlation.window > Timespan.parse(rule.lookback).seconds:
        what = f"the window {correlation.timespan} is longer than the look-back {rule.lookback}"
        yield fault(place, what, 'shorten it, or state a longer "lookback:"')

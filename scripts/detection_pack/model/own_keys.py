"""Faults of the pack's own keys: the alert view, the look-back, and what queries take as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detection_pack.model.detections import Fault, Keys
from detection_pack.model.findings import PackError
from detection_pack.model.limits import MAX_COUNT
from detection_pack.model.reading import Reading
from detection_pack.model.rule import AlertView, Rule
from detection_pack.model.timespan import Timespan

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
    yield from _parameters(reading, rule)


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

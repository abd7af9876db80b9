"""An explanation as text for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from detection_pack.model.findings import printable
from detection_pack.replay.explain import (
    Answer,
    ComparedValue,
    Explanation,
    ItemExplained,
    PlatformExplained,
    RuleExplained,
)
from detection_pack.replay.explain_correlation import CorrelationExplained, WindowExplained
from detection_pack.replay.explain_ingest import IngestedRecord, StoredField, as_text

#: Characters of a value on a line of text; JSON has it whole.
_SHOWN = 70
_SIGNS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<", "eq": "=", "neq": "!="}
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def explanation_text(told: Explanation) -> str:
    """The whole explanation; no value of the record or the rule can steer a terminal or add a line."""
    lines = [
        f"rule   {told.rule.name}  {told.rule.path}",
        f"event  {told.event.id}  {told.origin}",
    ]
    for one in told.platforms:
        lines += ["", f"{one.title}: {_verdict(one)}", *_indented(_platform(one))]
    return "\n".join(map(printable, lines))


def _verdict(one: PlatformExplained) -> str:
    if one.refused is not None:
        return "cannot say this rule"
    if one.correlation is not None:
        if one.correlation.counts is None:
            return "cannot be asked"
        if not one.correlation.counts:
            return "the event does not count"
        fires = [window.fires for window in one.correlation.windows]
        if any(fires):
            return "the event counts, and the rule fires"
        return "the event counts" + (", and the rule does not fire" if None not in fires else "")
    answers = [rule.answer.holds for rule in one.rules]
    return "fires" if any(answers) else "cannot be asked" if None in answers else "does not fire"


def _platform(one: PlatformExplained) -> Iterator[str]:
    yield from _ingest(one.ingest, one.files)
    if one.refused is not None:
        yield f"refused  {one.refused}"
    for rule in one.rules:
        yield from _rule(rule)
    if one.correlation is not None:
        yield from _correlation(one.correlation)


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _ingest(ingest: IngestedRecord, files: Sequence[str]) -> Iterator[str]:
    places = list(dict.fromkeys(one.place for one in ingest.stored))
    stored = " and ".join(places) if places else "nowhere"
    yield f"stored in {stored}, by {', '.join(files)}"
    if ingest.reason is not None:
        yield f"  not there: {ingest.reason}"
    if not ingest.stored:
        return
    rows: list[tuple[str, ...]] = []
    kept: list[str] = []
    for key in ingest.keys:
        # A further place repeats what the first has.
        fields = [field for field in key.fields if field.place == places[0]]
        if not fields:
            rows.append(("dropped", key.key, _short(key.value), "", "", ""))
        for field in fields:
            if field.became == "kept":
                kept.append(key.key)
                continue
            value = "" if field.became == "renamed" else _short(field.value)
            rows.append((field.became, key.key, _short(key.value), "->", field.name, value))
    rows += [
        ("added", "", "", "", field.name, _short(field.value))
        for field in ingest.added
        if field.place == places[0]
    ]
    order = ("dropped", "rewritten", "retyped", "renamed", "added")
    yield from _aligned(sorted(rows, key=lambda row: order.index(row[0])), "  ")
    if kept:
        yield f"  kept       {', '.join(kept)}"


def _rule(rule: RuleExplained) -> Iterator[str]:
    yield f"conditions of {rule.name}"
    rows: list[tuple[str, ...]] = []
    for selection in rule.selections:
        rows.append((_answer(selection.answer), selection.name, _why(selection.answer)))
        for item in selection.items:
            rows.append((_answer(item.answer), f"  {_asked(item)}", _item_value(item)))
    rows.append((_answer(rule.answer), rule.condition, _why(rule.answer)))
    yield from _aligned(rows, "  ")


def _asked(item: ItemExplained) -> str:
    values = ", ".join(as_text(value) for value in item.wanted)
    return _cut(values if item.key is None else f"{item.key}: {values}", 60)


def _item_value(item: ItemExplained) -> str:
    shown = "; ".join(f"{one.field} = {_compared(one)}" for one in item.compared)
    return " ".join(filter(None, [shown, _why(item.answer)]))


def _compared(one: ComparedValue) -> str:
    value = "(nothing)" if one.value is None else _short(one.value)
    return value if one.expression is None else f"{value} by {_cut(one.expression, 60)}"


def _answer(answer: Answer) -> str:
    return {True: "true", False: "false", None: "?"}[answer.holds]


def _why(answer: Answer) -> str:
    return "" if answer.refused is None else f"(refused alone: {answer.refused})"


def _correlation(told: CorrelationExplained) -> Iterator[str]:
    facts = told.facts
    counted = f" of {facts.value_field}" if facts.value_field else ""
    sign = _SIGNS.get(facts.operator, facts.operator)
    yield f"{facts.type}{counted} {sign} {facts.threshold:g} in {facts.timespan}"
    if told.refused is not None:
        yield f"  refused  {told.refused}"
    if told.counts is False:
        yield "  this event does not count"
    for window in told.windows:
        yield from _aligned(_window(window), "  ")


def _window(window: WindowExplained) -> list[tuple[str, ...]]:
    count = "?" if window.value is None else f"{window.value:g}"
    fires = {True: "fires", False: "does not fire", None: "its query cannot be run here"}[window.fires]
    return [
        ("group", ", ".join(f"{name}={value}" for name, value in window.group) or "(all)"),
        ("window", window.window.strftime(_TIME)),
        ("count", f"{count}: {fires}"),
        *(("events" if number == 0 else "", name) for number, name in enumerate(window.events)),
    ]


def _aligned(rows: Sequence[tuple[str, ...]], lead: str) -> Iterator[str]:
    """Columns as wide as their widest cell, once what does not print is escaped; the last one is free."""
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)][:-1] if shown else []
    for row in shown:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield (lead + "  ".join([*cells, row[-1]])).rstrip()


def _short(value: Any) -> str:
    return _cut(as_text(value), _SHOWN) or '""'


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def explanation_json(told: Explanation) -> dict[str, Any]:
    """The whole explanation as plain data. Times are UTC, ids and values as they are."""
    return {
        "rule": told.rule.name,
        "event": told.event.id,
        "origin": told.origin,
        "source": told.event.source.name,
        "platforms": [_platform_json(one) for one in told.platforms],
    }


def _platform_json(one: PlatformExplained) -> dict[str, Any]:
    ingest = one.ingest
    return {
        "platform": one.id,
        "refused": one.refused,
        "ingest": {
            "files": list(one.files),
            "places": list(dict.fromkeys(stored.place for stored in ingest.stored)),
            "reason": ingest.reason,
            "keys": [
                {"key": key.key, "value": key.value, "fields": [_field_json(f) for f in key.fields]}
                for key in ingest.keys
            ],
            "added": [_field_json(field) for field in ingest.added],
        },
        "rules": [_rule_json(rule) for rule in one.rules],
        "correlation": None if one.correlation is None else _correlation_json(one.correlation),
    }


def _field_json(field: StoredField) -> dict[str, Any]:
    return {"place": field.place, "name": field.name, "value": _plain(field.value), "became": field.became}


def _rule_json(rule: RuleExplained) -> dict[str, Any]:
    return {
        "name": rule.name,
        "condition": rule.condition,
        **_answer_json(rule.answer),
        "selections": [
            {
                "name": selection.name,
                **_answer_json(selection.answer),
                "items": [_item_json(item) for item in selection.items],
            }
            for selection in rule.selections
        ],
    }


def _item_json(item: ItemExplained) -> dict[str, Any]:
    compared = [
        {"field": one.field, "value": _plain(one.value), "expression": one.expression}
        for one in item.compared
    ]
    return {
        "item": item.key,
        "wanted": list(item.wanted),
        **_answer_json(item.answer),
        "compared": compared,
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    return {"holds": answer.holds, "refused": answer.refused}


def _correlation_json(told: CorrelationExplained) -> dict[str, Any]:
    facts = told.facts
    return {
        "type": facts.type,
        "field": facts.value_field,
        "group_by": list(facts.group_by),
        "timespan": facts.timespan,
        "operator": facts.operator,
        "threshold": facts.threshold,
        "counts": told.counts,
        "refused": told.refused,
        "windows": [
            {
                "group": dict(window.group),
                "window": window.window.strftime(_TIME),
                "value": window.value,
                "fires": window.fires,
                "events": list(window.events),
            }
            for window in told.windows
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float | bool) else as_text(value)

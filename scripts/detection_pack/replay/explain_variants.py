"""A rule taken apart: every detection item, every selection and the condition as a rule of its own.

Each is the rule itself with another condition. What it does not ask about stays in it, because a pipeline may
map a field by what else the rule says. So each can be given to a platform, which then answers for itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detection_pack.model.detections import Leaf, leaves
from detection_pack.model.documents import Document
from detection_pack.model.rule import Rule
from detection_pack.model.windows import CLOCK, EVERY

#: The name of the detection that holds one item alone.
ITEM = "explained_item"
_LEAST_ONE = {"gte": 1}


@dataclass(frozen=True)
class Variant:
    """A rule that asks one thing. ``detection``: the name of the detection that it asks for; None for the
    whole condition."""

    rule: Rule
    detection: str | None


@dataclass(frozen=True)
class ItemVariant:
    """One detection item: its place in its selection, and the rule that asks for it alone."""

    leaf: Leaf
    variant: Variant

    @property
    def fields(self) -> tuple[str, ...]:
        """The canonical fields that it compares."""
        if self.leaf.field is None:
            return ()
        others = self.leaf.values if "fieldref" in self.leaf.modifiers else ()
        return (self.leaf.field, *(str(value) for _, value in others))


@dataclass(frozen=True)
class SelectionVariant:
    """One named detection with its items, and the rule that asks for it alone."""

    name: str
    items: tuple[ItemVariant, ...]
    variant: Variant


@dataclass(frozen=True)
class RuleVariants:
    """One rule of a file: a plain rule, or one that a correlation counts."""

    name: str
    condition: str
    selections: tuple[SelectionVariant, ...]
    whole: Variant

    @property
    def every(self) -> Iterator[Variant]:
        """All that there is to ask."""
        for selection in self.selections:
            yield from (item.variant for item in selection.items)
            yield selection.variant
        yield self.whole


def variants_of(rule: Rule) -> tuple[RuleVariants, ...]:
    """Every rule of a file, taken apart."""
    maker = _Maker(rule)
    return tuple(maker.taken_apart(one) for one in rule.documents if "detection" in one.data)


def showing(rule: Rule, asked: RuleVariants, fields: Sequence[str]) -> dict[str, Rule]:
    """For each canonical field a rule that finds every event and shows what the platform's query has for the
    field, in the last of the alert's columns."""
    document = next(d for d in rule.documents if "detection" in d.data and _name(rule, d) == asked.name)
    alert = {k: v for k, v in (rule.main.data.get("alert") or {}).items() if k in ("user", "source")}
    made = {}
    for number, name in enumerate(fields):
        detection = {**document.data["detection"], ITEM: {f"{name}|exists": True}}
        detection["condition"] = f"{ITEM} or not {ITEM}"
        shown = {"type": rule.name, "detail": rule.name, **alert, "extra": name}
        own = {**document.data, "name": f"explained_value_{number}", "detection": detection, "alert": shown}
        main = replace(document, data=own)
        made[name] = replace(rule, name=own["name"], tier="hunting", documents=(main,), main=main)
    return made


def _name(rule: Rule, document: Document) -> str:
    return str(document.data.get("name") or rule.name)


def counting_each(rule: Rule) -> Rule:
    """A correlation that alerts on every event that it would count, with its groups and all its windows."""
    return _correlated(rule, f"{rule.name[:50]}_counted", {"type": "event_count", "condition": _LEAST_ONE})


def counting_from_one(rule: Rule) -> Rule | None:
    """A correlation that alerts as soon as there is anything to count; None for a type without a number."""
    facts = rule.correlation
    if facts is None or facts.type.startswith("temporal"):
        return None
    stated = rule.main.data["correlation"].get("condition")
    kept = {k: v for k, v in stated.items() if k == "field"} if isinstance(stated, dict) else {}
    return _correlated(rule, f"{rule.name[:50]}_so_far", {"condition": kept | _LEAST_ONE})


def in_every_window(rule: Rule) -> Rule | None:
    """A correlation whose windows overlap, which says of each that the condition holds there; None for one
    that does so by itself."""
    if rule.correlation is None or rule.correlation.overlapping is None:
        return None
    return _correlated(rule, f"{rule.name[:50]}_windows", {})


def _correlated(rule: Rule, name: str, changed: Mapping[str, Any]) -> Rule:
    data = {**rule.main.data, "name": name}
    overlapping = rule.correlation is not None and rule.correlation.overlapping is not None
    data["windows"] = EVERY if overlapping else CLOCK
    data["correlation"] = {**data["correlation"], **changed}
    main = replace(rule.main, data=data)
    documents = tuple(main if one is rule.main else one for one in rule.documents)
    return replace(rule, name=name, tier="hunting", documents=documents, main=main)


class _Maker:
    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._made = 0

    def taken_apart(self, document: Document) -> RuleVariants:
        detection: Mapping[str, Any] = document.data["detection"]
        named: dict[str, list[ItemVariant]] = {str(name): [] for name in detection if name != "condition"}
        for leaf in leaves(document):
            named[str(leaf.keys[1])].append(ItemVariant(leaf, self._item(document, leaf)))
        selections = [
            SelectionVariant(name, tuple(items), self._asking(document, name, detection))
            for name, items in named.items()
        ]
        whole = self._variant(document, detection, None)
        return RuleVariants(
            _name(self._rule, document), str(detection.get("condition", "")), tuple(selections), whole
        )

    def _item(self, document: Document, leaf: Leaf) -> Variant:
        values = [value for _, value in leaf.values] if leaf.is_list else leaf.values[0][1]
        alone: Any = values if leaf.key is None else {leaf.key: values}
        if leaf.key is None and not leaf.is_list:
            alone = [values]
        return self._asking(document, ITEM, {**document.data["detection"], ITEM: alone})

    def _asking(self, document: Document, name: str, detection: Mapping[str, Any]) -> Variant:
        return self._variant(document, {**detection, "condition": name}, name)

    def _variant(self, document: Document, detection: Mapping[str, Any], asked: str | None) -> Variant:
        """The document with another detection, in a rule that alerts on each of its events."""
        name = f"explained_{self._made}"
        self._made += 1
        rule = self._rule
        own = {**copy.deepcopy(document.data), "detection": dict(detection)}
        if document is rule.main:
            made = replace(document, data=own | {"name": name})
            return Variant(replace(rule, name=name, tier="hunting", documents=(made,), main=made), asked)
        # A rule that is correlated is asked in the language of its correlation.
        base = replace(document, data=own)
        correlation = {
            **rule.main.data["correlation"],
            "type": "event_count",
            "rules": [document.data.get("name") or document.data.get("id")],
            "condition": _LEAST_ONE,
        }
        data = {**rule.main.data, "name": name, "correlation": correlation, "windows": CLOCK}
        main = replace(rule.main, data=data)
        made_rule = replace(rule, name=name, tier="hunting", documents=(base, main), main=main)
        return Variant(made_rule, asked)

"""The parts of a rule by their places: detection items, and the rule without some of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from detection_pack.model.documents import ABSENT, Document, Key, value_at
from detection_pack.model.findings import Finding
from detection_pack.model.rule import Rule

#: A place in a document.
Keys = tuple[Key, ...]


@dataclass(frozen=True)
class Value:
    """Another value, where a plain string in `pruned` would be another key."""

    value: Any


@dataclass(frozen=True)
class Fault:
    """A finding with the place that it is about, and what stands there in its stead for further checks:
    another key, another `Value`, or None to leave it out.

    ``platforms``: the ids of those that it is about; none for a fault of the rule itself."""

    finding: Finding
    document: Document
    keys: Keys
    instead: str | Value | None = None
    platforms: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class Leaf:
    """One item of a detection: ``keys`` is its place, ``field`` None for a keyword, ``values`` each with its
    own place."""

    document: Document
    keys: Keys
    key: str | None
    values: tuple[tuple[Keys, Any], ...]
    is_list: bool

    @property
    def field(self) -> str | None:
        return (self.key or "").split("|")[0] or None

    @property
    def indexes(self) -> tuple[int, ...]:
        return tuple(range(len(self.values)))

    @property
    def modifiers(self) -> tuple[str, ...]:
        return tuple((self.key or "").split("|")[1:])


def leaves(document: Document) -> Iterator[Leaf]:
    """Every detection item of a document, in the order of the file."""
    detection = document.data.get("detection")
    if not isinstance(detection, dict):
        return
    for name, definition in detection.items():
        if name != "condition":
            yield from _leaves(document, ("detection", name), definition)


def _leaves(document: Document, keys: Keys, definition: Any) -> Iterator[Leaf]:
    if isinstance(definition, dict):
        for key, value in definition.items():
            yield _leaf(document, (*keys, key), str(key), value)
    elif isinstance(definition, list) and any(isinstance(item, dict | list) for item in definition):
        for index, item in enumerate(definition):
            yield from _leaves(document, (*keys, index), item)
    else:
        yield _leaf(document, keys, None, definition)


def _leaf(document: Document, keys: Keys, key: str | None, value: Any) -> Leaf:
    listed = isinstance(value, list)
    values = tuple(((*keys, i), v) for i, v in enumerate(value)) if listed else ((keys, value),)
    return Leaf(document, keys, key, values, listed)


def without(rule: Rule, faults: Iterable[Fault]) -> Rule:
    """The rule without the places of these faults, or with what stands there in their stead; its lines stay
    the file's."""
    listed = list(faults)
    made = []
    for document in rule.documents:
        own = [(fault.keys, fault.instead) for fault in listed if fault.document is document]
        gone = frozenset(keys for keys, instead in own if instead is None)
        renamed = {keys: instead for keys, instead in own if instead is not None}
        made.append(pruned(document, gone, renamed))
    main = next(new for new, old in zip(made, rule.documents, strict=True) if old is rule.main)
    return replace(rule, documents=tuple(made), main=main)


def pruned(document: Document, without: frozenset[Keys], renamed: Mapping[Keys, Any]) -> Document:
    """The document without some of its places, and with other keys or values at some, lines kept.

    ``renamed`` gives a mapping's entry another key, and any other place another value. What becomes empty
    goes, too.
    """
    lines: dict[Keys, int] = {}

    def walk(node: Any, old: Keys, new: Keys) -> Any:
        lines[new] = document.line(*old)
        if isinstance(node, dict):
            kept: dict[Any, Any] = {}
            for key, child in node.items():
                at = (*old, key)
                name = renamed[at] if isinstance(renamed.get(at), str) else key
                if at not in without and name not in kept:
                    kept[name] = walk(child, at, (*new, name))
            return {key: child for key, child in kept.items() if child is not _EMPTY} or _EMPTY
        if isinstance(node, list):
            out: list[Any] = []
            for index, child in enumerate(node):
                if (*old, index) not in without:
                    made = walk(child, (*old, index), (*new, len(out)))
                    out += [made] if made is not _EMPTY else []
            return out or _EMPTY
        return renamed[old].value if isinstance(renamed.get(old), Value) else node

    data = walk(document.data, (), ())
    data = {} if data is _EMPTY else data
    kept = {keys: line for keys, line in lines.items() if value_at(data, keys) is not ABSENT}
    return replace(document, data=data, lines=kept)


_EMPTY: Any = object()

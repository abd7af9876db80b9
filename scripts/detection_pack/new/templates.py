"""What a new rule is made from: another rule of the pack with its events, or what is known of a log source.

A template has one place for the new rule's values: the text item that lists the most in the rule it comes
from. Everything else about the detection stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detection_pack.model.case import load_cases, log_source_of
from detection_pack.model.documents import Document, load_documents
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack
from detection_pack.model.placeholders import is_placeholder
from detection_pack.model.rule import Rule
from detection_pack.new.items import Item, as_text, conjuncts, item_of

DATA = Path(__file__).parent / "data"

#: An entry of an events file, as it stands there.
Case = dict[str, Any]
_SIDES = ("match", "no_match")


@dataclass(frozen=True)
class Surroundings:
    """What new rules of one log source can build on: ``new`` of its source.yml.

    ``rule``: what a rule starts as; ``carriers``: field (or ``field|operator``) to the text around a value;
    ``never``: field to an expression for what it cannot hold; ``others``: field to what else it holds;
    ``surroundings``, ``elsewhere`` and ``records``: see the files. A source that says nothing of it has none.
    """

    logsource: Mapping[str, str]
    rule: Mapping[str, Any] = field(default_factory=dict)
    carriers: Mapping[str, str] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    surroundings: Sequence[Mapping[str, Any]] = ()
    elsewhere: Sequence[Mapping[str, Any]] = ()
    common: Sequence[str] = ()
    records: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Correlated:
    """The events file of a correlation: its defaults, and its cases under ``match`` and ``no_match``."""

    defaults: Mapping[str, Any]
    cases: Mapping[str, Sequence[Case]]


@dataclass(frozen=True)
class Template:
    """A rule without its values.

    ``documents`` are the Sigma documents, ``slot`` the path to the list of values in the first of them and
    ``item`` the item there. ``others`` are the other required items that can be judged, ``unjudged`` the
    fields of those that cannot, ``excluded`` the fields and the items of what must not be. ``record`` is a
    raw record that the rule it comes from matches, without the item's field. ``whole_terms`` says how the
    rule takes ``|contains``.
    """

    documents: tuple[dict[str, Any], ...]
    slot: tuple[str, str]
    item: Item
    others: tuple[Item, ...]
    unjudged: frozenset[str]
    excluded: tuple[tuple[frozenset[str], tuple[Item, ...]], ...]
    record: Mapping[str, Any]
    log_source: LogSource
    whole_terms: bool
    source: Surroundings
    correlated: Correlated | None = None


def log_sources(pack: Pack) -> tuple[Surroundings, ...]:
    """Every log source that rules can be made from."""
    return tuple(Surroundings(**source.new) for source in pack.sources.values() if source.new)


def from_log_source(pack: Pack, text: str) -> Template:
    """The template of ``product=…,service=…`` (or ``category=…``). Raises `PackError`."""
    stated = dict(part.strip().partition("=")[::2] for part in text.split(","))
    for source in log_sources(pack):
        if source.logsource == stated:
            document = {**copy.deepcopy(dict(source.rule)), "logsource": dict(source.logsource)}
            record = document.pop("record")
            rule = _as_rule(document)
            place = next(
                (name, key)
                for name, selection in document["detection"].items()
                if isinstance(selection, dict)
                for key, values in selection.items()
                if isinstance(values, list) and any(map(is_placeholder, values))
            )
            return _template(pack, rule, (document,), place, record, source)
    known = " or ".join(",".join(f"{k}={v}" for k, v in s.logsource.items()) for s in log_sources(pack))
    raise PackError.at(
        "--logsource", 1, f'nothing is known of "{text}"', f"use {known}, or --like a rule of it"
    )


def of_document(
    pack: Pack,
    document: dict[str, Any],
    place: tuple[str, str],
    record: Mapping[str, Any],
    source: Surroundings,
) -> Template:
    """The template of one Sigma document; ``place``: the selection and the key of the item it is about, and
    ``record`` a record that it matches, without the field of that item."""
    return _template(pack, _as_rule(document), (document,), place, record, source)


def like(pack: Pack, rule: Rule) -> Template:
    """The template of a rule of the pack, its values taken out. Raises `PackError`."""
    documents = tuple(copy.deepcopy(document.data) for document in rule.documents)
    # pySigma takes the documents of a file in any order; here the detection comes first.
    documents = tuple(sorted(documents, key=lambda data: "correlation" in data))
    if sum("detection" in data for data in documents) != 1:
        raise _unusable(rule, "correlates several detections", "use --like with another rule, or --logsource")
    detection = documents[0]["detection"]
    place = _values_of(pack, rule, detection)
    source = next((s for s in log_sources(pack) if s.logsource.items() <= rule.logsource.items()), None)
    source = source or Surroundings(rule.logsource)
    events = pack.root / "tests" / "events" / f"{rule.name}.yml"
    load_cases(events, log_source_of(rule, pack.sources))
    stated = load_documents(events)[0]
    item = item_of(place[1], detection[place[0]][place[1]])
    assert item is not None  # _values_of found it
    record = _record(rule, stated, item, log_source_of(rule, pack.sources))
    template = _template(pack, rule, documents, place, record, source)
    if rule.correlation is None:
        return template
    # A real record with another value in it would not be one any more.
    cases = {side: [c for c in stated.data.get(side) or () if "source" not in c] for side in _SIDES}
    return replace(template, correlated=Correlated(stated.data.get("defaults") or {}, cases))


def _template(
    pack: Pack,
    rule: Rule,
    documents: tuple[dict[str, Any], ...],
    place: tuple[str, str],
    record: Mapping[str, Any],
    source: Surroundings,
) -> Template:
    detection = documents[0]["detection"]
    item = item_of(place[1], detection[place[0]][place[1]])
    assert item is not None
    parts = conjuncts(detection["condition"], _names(detection))
    if parts is None:
        # What an alternative needs cannot be told from one of its parts: keep the part with the values.
        documents[0]["detection"] = {place[0]: detection[place[0]], "condition": place[0]}
        parts = ([place[0]], [])
    required = [(name, key, v) for name in parts[0] for key, v in _pairs(detection[name])]
    others = [item_of(key, values) for name, key, values in required if (name, key) != place]
    unjudged = [(key, values) for _, key, values in required if item_of(key, values) is None]
    excluded = []
    for pairs in (_pairs(detection[name]) for name in parts[1]):
        judged = tuple(found for key, values in pairs if (found := item_of(key, values)))
        excluded.append((_fields(pairs), judged))
    return Template(
        documents=documents,
        slot=place,
        item=item,
        others=tuple(other for other in others if other is not None),
        unjudged=_fields(unjudged),
        excluded=tuple(excluded),
        record=record,
        log_source=log_source_of(rule, pack.sources),
        whole_terms=rule.whole_terms,
        source=source,
    )


def _values_of(pack: Pack, rule: Rule, detection: Mapping[str, Any]) -> tuple[str, str]:
    """The selection and the key of the item that the rule is about: of the texts, the one that lists most."""
    names = _names(detection)
    counted = {*rule.correlation.group_by, rule.correlation.value_field} if rule.correlation else set()
    parts = conjuncts(detection["condition"], names)
    required = parts[0] if parts else [n for n in names if not n.startswith("filter")]
    found: list[tuple[int, tuple[str, str]]] = []
    for name in required:
        for key, values in _pairs(detection[name]) if isinstance(detection[name], dict) else ():
            item = item_of(key, values)
            if item is None or item.field in counted:
                continue
            traits = [pipeline.traits(rule, item.field) for pipeline in pack.pipelines.values()]
            if not any(trait.enumerated for trait in traits):
                found.append((len(item.values), (name, key)))
    if not found:
        raise _unusable(
            rule, "compares no field with plain texts", "use --like with another rule, or --logsource"
        )
    return max(found, key=lambda one: one[0])[1]


def _record(rule: Rule, events: Document, item: Item, source: LogSource) -> dict[str, Any]:
    """A raw record that the rule matches, without the item's field: the defaults alone where they suffice."""
    defaults = dict(events.data.get("defaults") or {})
    found: list[tuple[bool, dict[str, Any]]] = []
    for case in events.data.get("match") or ():
        if {"source", "except"} & set(case):
            continue
        own = dict(case.get("record") or {})
        if case.get("each"):
            own |= dict(case["each"][0])
        absent = set(case.get("absent") or ())
        record = {k: v for k, v in defaults.items() if k not in absent} | own
        if item.finds(as_text(item.field, record, source), whole_terms=False):
            record = {k: v for k, v in record.items() if k not in (item.field, "Id")}
            found.append((bool(absent or set(own) - {item.field}), record))
    if not found:
        what = f'has no event that holds one of its values in "{item.field}"'
        raise _unusable(rule, what, "use --like with another rule, or --logsource")
    return min(found, key=lambda one: one[0])[1]


def _names(detection: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in detection if name != "condition"]


def _pairs(selection: Any) -> list[tuple[str, Any]]:
    """``(key, values)`` of a selection; those of a list of mappings are alternatives and only name fields."""
    if isinstance(selection, dict):
        return [(str(key), values) for key, values in selection.items()]
    listed = selection if isinstance(selection, list) else []
    return [(f"{key}|any", v) for part in listed if isinstance(part, dict) for key, v in part.items()]


def _fields(pairs: Sequence[tuple[str, Any]]) -> frozenset[str]:
    """The fields that items read, those of a comparison with another field included."""
    compared = {str(values) for key, values in pairs if "fieldref" in key}
    return frozenset(compared | {key.partition("|")[0] for key, _ in pairs})


def _as_rule(document: dict[str, Any]) -> Rule:
    """The rule of a log source's data, for the pipelines to look at."""
    documents = (Document(DATA, {"title": "new rule", **document}, {}),)
    return Rule("new_rule", DATA, "extended", documents, documents[0])


def _unusable(rule: Rule, what: str, todo: str) -> PackError:
    return PackError.at(rule.path, rule.main.line("detection"), what, todo)

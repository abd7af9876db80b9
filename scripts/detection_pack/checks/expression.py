"""What a platform cannot express, value by value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detection_pack.build.dist import make
from detection_pack.checks.catalogue import Keys
from detection_pack.checks.subject import Leaf, Subject, Value, leaves, pruned
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.pack import Pack
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.elastic.backend import queries as elastic
from detection_pack.platforms.sentinel.defender import DEFENDER, defender_query
from detection_pack.platforms.sentinel.query import query_of
from detection_pack.platforms.splunk.query import queries as splunk

Converter = Callable[[Rule, Pipeline], object]
#: What turns a rule into a platform's query, by the name of the pipeline.
CONVERTERS: Mapping[str, tuple[str, Converter]] = {
    "sentinel": ("Sentinel", query_of),
    DEFENDER: ("Defender XDR", defender_query),
    "splunk": ("Splunk", splunk),
    "elastic": ("Elastic", elastic),
}
_Items = Sequence[tuple[Leaf, Sequence[int]]]
_TODO = "write it in another way, or split the rule"


def without(rule: Rule, places: Iterable[tuple[Document, Keys, str | Value | None]]) -> Rule:
    """The rule without some places (None), or with another key or value there; its lines stay the file's."""
    listed = list(places)
    made = []
    for document in rule.documents:
        own = [(keys, instead) for other, keys, instead in listed if other is document]
        gone = frozenset(keys for keys, instead in own if instead is None)
        made.append(pruned(document, gone, {keys: instead for keys, instead in own if instead is not None}))
    main = made[rule.documents.index(rule.main)] if rule.main in rule.documents else rule.main
    return replace(rule, documents=tuple(made), main=main)


def refusals(pack: Pack, subject: Subject, rule: Rule, whole: bool) -> Iterator[Finding]:
    """Every value that a platform cannot say, then whatever else keeps ``rule`` from being built.

    ``rule`` is the subject's without the faults that are known already; unless it is still ``whole``, what is
    said of it as one is left out.
    """
    refused = _build(pack, rule)
    if not refused:
        return
    blamed: list[tuple[Document, Keys, str | Value | None]] = []
    said: set[str] = set()
    for document in rule.documents:
        if "correlation" in document.data:
            continue
        for keys, complaints in _refused_values(subject, rule, document, whole).items():
            blamed.append((document, keys, None))
            for what, names in complaints.items():
                said.add(what)
                said_by = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
                text = f"{said_by} cannot say this: {what}"
                yield subject.at("inexpressible", document, keys, text, _TODO)
    left = without(rule, blamed)
    rest = _build(pack, left) if blamed else refused
    if whole and all(_looks_for_something(document) for document in left.documents):
        yield from (finding for finding in rest if finding.what not in said)


def _looks_for_something(document: Document) -> bool:
    """Whether any selection is left of a detection; a correlation has none."""
    detection = document.data.get("detection")
    return not isinstance(detection, dict) or any(v for k, v in detection.items() if k != "condition")


def _build(pack: Pack, rule: Rule) -> Sequence[Finding]:
    try:
        return make(replace(pack, rules=(rule,)), keep_going=True).refused
    except PackError as error:
        return error.findings
    except Exception as error:  # a value of a type that no part of a build foresaw
        what = f"cannot be built ({type(error).__name__}: {error})".split("\n")[0]
        return [
            Finding(str(rule.path), rule.main.line(), what, "write every value as the rules of sigma/core do")
        ]


def _refused_values(
    subject: Subject, rule: Rule, document: Document, whole: bool
) -> dict[Keys, dict[str, list[str]]]:
    """Each refused value by its place: every complaint about it, and who makes it.

    A value that is refused alone may be fine beside the rest of its rule (a field's place may hang on the
    record type), so it is tried in that company as well.
    """
    found: dict[Keys, dict[str, list[str]]] = {}
    listed = list(leaves(document))
    for name, (shown, convert) in CONVERTERS.items():
        if (pipeline := subject.pipelines.get(name)) is None:
            continue
        probe = _Probe(rule, document, convert, pipeline)
        if whole and probe.refused(rule) is None:
            continue  # it is another platform, or no value, that keeps the rule from being built
        fine = {leaf.keys: probe.complaint([(leaf, leaf.indexes)]) is None for leaf in listed}
        for leaf in listed:
            if fine[leaf.keys]:
                continue
            company = [(other, other.indexes) for other in listed if fine[other.keys]]
            for index, what in probe.blamed(leaf, leaf.indexes, company):
                at = leaf.keys if index is None else leaf.values[index][0]
                said_by = found.setdefault(at, {}).setdefault(what, [])
                said_by += [shown] if shown not in said_by else []
    return found


#: Conversions that a platform is asked for to find who is to blame in one document.
_MOST_PROBES = 150


@dataclass
class _Probe:
    """Small rules of one document's log source, converted for one platform."""

    rule: Rule
    document: Document
    convert: Converter
    pipeline: Pipeline
    asked: int = 0

    def blamed(self, leaf: Leaf, indexes: Sequence[int], company: _Items) -> list[tuple[int | None, str]]:
        """The values of ``leaf`` that are refused beside ``company``, with the complaint; by halving.

        After `_MOST_PROBES` conversions the rest is blamed as a whole, with None for its place.
        """
        self.asked += 1
        what = self.complaint([(leaf, indexes), *company])
        if what is None or not indexes:
            return []
        if len(indexes) == 1:
            return [(indexes[0], what)]
        if self.asked > _MOST_PROBES:
            return [(None, what)]
        middle = len(indexes) // 2
        return [
            found
            for half in (indexes[:middle], indexes[middle:])
            for found in self.blamed(leaf, half, company)
        ]

    def complaint(self, items: _Items) -> str | None:
        """What the platform has against a rule of these items, all of which must hold."""
        detection: dict[str, Any] = {f"s{n}": _definition(*item) for n, item in enumerate(items)}
        detection["condition"] = " and ".join(detection)
        main = self.rule.main.data
        data = {"whole_terms": main["whole_terms"]} if "whole_terms" in main else {}
        data |= {"title": "Title", "logsource": self.document.data.get("logsource"), "detection": detection}
        return self.refused(self._alone(data))

    def refused(self, rule: Rule) -> str | None:
        """What the platform has against a rule; None if it can say it."""
        try:
            self.convert(rule, self.pipeline)
        except PackError as error:
            return re.sub(r"\s+", " ", error.findings[0].what)
        except Exception as error:  # what no backend foresaw is not expressed either
            return f"{type(error).__name__}: {error}".split("\n")[0]
        return None

    def _alone(self, data: dict[str, Any]) -> Rule:
        """A rule of this detection; under a correlation where the file has one, which can say more."""
        path = Path("value.yml")
        document = Document(path, {**data, "name": "base"}, {(): 1})
        stated = self.rule.main.data.get("correlation")
        if not isinstance(stated, dict):
            return Rule("value", path, "other", (document,), document)
        correlation = {"type": "event_count", "rules": ["base"], "timespan": "1h", "condition": {"gte": 2}}
        correlation |= {"group-by": stated["group-by"]} if isinstance(stated.get("group-by"), list) else {}
        main = Document(path, {"title": "Title", "correlation": correlation}, {(): 1})
        return Rule("value", path, "other", (document, main), main)


def _definition(leaf: Leaf, indexes: Sequence[int]) -> Any:
    values = [leaf.values[i][1] for i in indexes]
    value: Any = values if len(values) > 1 else values[0]
    return value if leaf.key is None else {leaf.key: value}

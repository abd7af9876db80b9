"""Which values of a rule a platform cannot express, by asking it about small rules of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.model.detections import Keys, Leaf, leaves
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.list_table import NotMaintained
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import CHANGE, Rule
from detection_pack.platforms.conversion import Part
from detection_pack.platforms.platform import Platform

_Items = Sequence[tuple[Leaf, Sequence[int]]]
#: What is wrong, and what to do.
Complaint = tuple[str, str]
#: What to do about a value where the platform has nothing to say of that.
_TODO = "write it in another way, or split the rule"
#: Conversions by which one platform's refusal of one rule is looked into, and values that they compare with
#: together. What is not found by then is told of the rule as a whole.
_MOST_PROBES, _MOST_VALUES = 120, 2_000


def attempt(
    platform: Platform, rule: Rule, pipelines: Mapping[str, Pipeline], version: str
) -> Part | tuple[Finding, ...]:
    """What the rule gives to dist/ on a platform, or what the platform has against it. Raises `NotMaintained`
    for a rule with `Rule.lists` of which the platform cannot ask one."""
    try:
        return platform.part(rule, pipelines, version)
    except NotMaintained:
        raise
    except PackError as error:
        return error.findings
    except Exception as error:  # what nobody foresaw in one rule must not end the work on the others
        what, todo = _unforeseen(error)
        return (Finding(str(rule.path), rule.main.line(), what, todo),)


def _unforeseen(error: Exception) -> Complaint:
    what = f"cannot be built ({type(error).__name__}: {error})".split("\n")[0]
    return what, "write every value as the rules of sigma/core do"


@dataclass
class Budget:
    """How much one platform may still be asked about one rule."""

    probes: int = _MOST_PROBES
    values: int = _MOST_VALUES

    def allows(self, values: int) -> bool:
        self.probes, self.values = self.probes - 1, self.values - values
        return self.probes >= 0 and self.values >= 0


def refused_values(
    platform: Platform, pipeline: Pipeline, rule: Rule, document: Document, budget: Budget
) -> dict[Keys, list[Complaint]]:
    """Each value of a document that the platform refuses, by its place, with every complaint about it.

    A value that is refused alone may be fine beside the rest of its rule (a field's place may hang on the
    record type), so it is tried in that company as well.
    """
    probe = _Probe(rule, document, platform, pipeline, budget)
    listed = list(leaves(document))
    refused = probe.refused_items(listed)
    alone = {leaf.keys for leaf in refused}
    company = [(leaf, leaf.indexes) for leaf in listed if leaf.keys not in alone]
    found: dict[Keys, list[Complaint]] = {}
    for leaf in refused:
        blamed = probe.blamed(leaf, leaf.indexes, company)
        if len(leaf.values) > 1 and len(blamed) == len(leaf.values) and len({c for _, c in blamed}) == 1:
            blamed = [(None, blamed[0][1])]  # the field is to blame, not each of its values
        for index, complaint in blamed:
            found.setdefault(leaf.keys if index is None else leaf.values[index][0], []).append(complaint)
    return found


@dataclass
class _Probe:
    """Small rules of one document's log source, converted for one platform."""

    rule: Rule
    document: Document
    platform: Platform
    pipeline: Pipeline
    budget: Budget

    def refused_items(self, listed: Sequence[Leaf]) -> list[Leaf]:
        """The items that are refused without company, by halving."""
        if not listed or not self._allowed([(leaf, leaf.indexes) for leaf in listed]):
            return []
        if self.complaint([(leaf, leaf.indexes) for leaf in listed]) is None:
            return []
        if len(listed) == 1:
            return list(listed)
        middle = len(listed) // 2
        return [*self.refused_items(listed[:middle]), *self.refused_items(listed[middle:])]

    def blamed(
        self, leaf: Leaf, indexes: Sequence[int], company: _Items, known: Complaint | None = None
    ) -> list[tuple[int | None, Complaint]]:
        """The values of ``leaf`` that are refused beside ``company``, with the complaint; by halving.

        Where nothing more may be asked the rest is blamed as a whole for what is ``known`` of more of them,
        with None for its place.
        """
        items = [(leaf, indexes), *company]
        if not self._allowed(items):
            return [(None, known)] if known else []
        said = self.complaint(items)
        if said is None or not indexes:
            return []
        if len(indexes) == 1:
            return [(indexes[0], said)]
        middle = len(indexes) // 2
        return [
            found
            for half in (indexes[:middle], indexes[middle:])
            for found in self.blamed(leaf, half, company, said)
        ]

    def _allowed(self, items: _Items) -> bool:
        return self.budget.allows(sum(len(indexes) for _, indexes in items))

    def complaint(self, items: _Items) -> Complaint | None:
        """What the platform has against a rule of these items, all of which must hold; None if it can say
        it."""
        detection: dict[str, Any] = {f"s{n}": _definition(*item) for n, item in enumerate(items)}
        detection["condition"] = " and ".join(detection)
        main = self.rule.main.data
        data = {"whole_terms": main["whole_terms"]} if "whole_terms" in main else {}
        data |= {"title": "Title", "logsource": self.document.data.get("logsource"), "detection": detection}
        try:
            self.platform.convert(self._alone(data), self.pipeline)
        except PackError as error:
            first = error.findings[0]
            todo = first.todo if first.todo != CHANGE else _TODO
            return re.sub(r"\s+", " ", first.what), todo
        except Exception as error:  # what no backend foresaw is not expressed either
            return _unforeseen(error)
        return None

    def _alone(self, data: dict[str, Any]) -> Rule:
        """A rule of this detection; under a correlation where the file has one, which can say more."""
        path = Path("value.yml")
        document = Document(path, {**data, "name": "base"}, {(): 1})
        stated = self.rule.main.data.get("correlation")
        if not isinstance(stated, dict):
            return Rule("value", path, "other", (document,), document)
        correlation = {"type": "event_count", "rules": ["base"], "timespan": "1h", "condition": {"gte": 2}}
        main = Document(path, {"title": "Title", "correlation": correlation}, {(): 1})
        return Rule("value", path, "other", (document, main), main)


def _definition(leaf: Leaf, indexes: Sequence[int]) -> Any:
    values = [leaf.values[i][1] for i in indexes]
    value: Any = values if len(values) != 1 else values[0]
    return value if leaf.key is None else {leaf.key: value}

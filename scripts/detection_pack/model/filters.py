"""Sigma filters: what somebody takes out of rules without changing them.

pySigma decides whether a filter is for a rule and joins the conditions; here the outcome becomes a document
again, so that everything else sees one rule, each part of it with the file and line where it stands. A rule
is never built without a filter that somebody wrote for it: where the filter is faulty, the rule is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

# The folder sigma/filters/ of the pack hides the module from mypy, if run beside it; Python finds it.
from sigma.filters import SigmaFilter  # type: ignore[attr-defined]
from sigma.rule import SigmaLogSource, SigmaRule

from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import Finding
from detection_pack.model.limits import limit_faults
from detection_pack.model.reading import Reading
from detection_pack.model.refused_forms import old_forms
from detection_pack.model.sigma_faults import SIGMA, document_faults

#: The check of what is said of a filter that is not applied.
UNAPPLIED = "unapplied-filter"
#: Filters that one rule may have.
MOST = 50
#: Keys of ``filter:`` that are no selections.
_OWN = ("rules", "condition")
#: What pySigma puts before the names of a filter's selections only where they look like this.
_SELECTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WORDS = frozenset({"not", "and", "or", "all", "any", "of", "them"})


@dataclass(frozen=True)
class Filter:
    """One document with ``filter:``. ``broken``: its file has a fault beside it."""

    document: Document
    text: str
    broken: tuple[Finding, ...] = ()

    @property
    def title(self) -> str:
        return str(self.document.data.get("title") or "without a title")

    @property
    def stated(self) -> dict[Any, Any]:
        found = self.document.data.get("filter")
        return found if isinstance(found, dict) else {}

    @property
    def place(self) -> str:
        return f"{self.document.path}:{self.document.line('filter')}"

    def at(self, keys: tuple[Key, ...], what: str, todo: str) -> Finding:
        return Finding(str(self.document.path), self.document.line(*keys), what, todo, SIGMA)

    def warning(self, keys: tuple[Key, ...], what: str, todo: str) -> Finding:
        path, line = str(self.document.path), self.document.line(*keys)
        return Finding(path, line, what, todo, UNAPPLIED, "warning")

    @property
    def named(self) -> tuple[tuple[tuple[Key, ...], str], ...] | None:
        """The rules that it names, each with its place; None where it is for any, or says nothing that can
        be read."""
        rules = self.stated.get("rules")
        if isinstance(rules, str):
            return None if rules.lower() == "any" else ((("filter", "rules"), rules),)
        if not isinstance(rules, list) or not rules:
            return None
        return tuple((("filter", "rules", n), str(name)) for n, name in enumerate(rules))

    def covers(self, document: Document) -> bool:
        """Whether its log source is that of the rule, or one that contains it. Where that cannot be told,
        it is taken to be."""
        own, others = self._source, _source(document.data.get("logsource"))
        return own is None or others is None or others in own

    @cached_property
    def _source(self) -> SigmaLogSource | None:
        return _source(self.document.data.get("logsource"))

    @cached_property
    def as_rule(self) -> Document:
        """The document with its selections as a rule's detection: what is a fault there is one here."""
        data = {key: value for key, value in self.document.data.items() if key != "filter"}
        data["detection"] = {key: value for key, value in self.stated.items() if key != "rules"}
        lines = {
            ("detection", *keys[1:]) if keys[:1] == ("filter",) else keys: line
            for keys, line in self.document.lines.items()
        }
        return Document(self.document.path, data, lines)

    @cached_property
    def faults(self) -> tuple[Finding, ...]:
        """Everything that keeps it from being applied."""
        try:
            return tuple(dict.fromkeys([*self.broken, *self._faults()]))
        except Exception as error:  # what nobody foresaw in one file must not end the work on the others
            what = f"cannot be read ({type(error).__name__}: {error})".split("\n")[0]
            return (self.at(("filter",), what, "see the specification of Sigma filters"),)

    def _faults(self) -> Iterator[Finding]:
        if beyond := list(limit_faults([self.as_rule])):
            yield from beyond
            return
        yield from self._about_rules()
        reading = Reading(self.document.path, self.text, None)
        for keys, what, todo in old_forms(self.as_rule):
            yield reading.at(SIGMA, self.as_rule, keys, what, todo)
        told = [fault.finding for fault in document_faults(reading, self.as_rule)]
        yield from told
        stated = self.stated.get("condition")
        if stated is not None and not isinstance(stated, str):
            yield self.at(("filter", "condition"), "has a condition that is not text", "write one condition")
        for name in self.stated:
            odd = not _SELECTION.fullmatch(str(name)) or str(name).lower() in _WORDS
            if name not in _OWN and odd:
                todo = "begin it with a letter, and use letters, digits, _ and - alone"
                yield self.at(("filter", name), f'the selection "{name}" cannot be named in a filter', todo)
        try:
            _ = self.sigma
        except Exception as error:
            if not told:
                what = str(error).split("\n")[0] or type(error).__name__
                yield self.at(("filter",), f"cannot be applied: {what}", "see the specification")

    def _about_rules(self) -> Iterator[Finding]:
        place: tuple[Key, ...] = ("filter", "rules")
        todo = 'write the names or ids of the rules that it is for, or "any"'
        rules = self.stated.get("rules")
        if "rules" not in self.stated:
            yield self.at(("filter",), 'the filter has no "rules"', todo)
        elif not rules or not isinstance(rules, str | list):
            yield self.at(place, "names no rules", todo)
        elif isinstance(rules, list):
            yield from (
                self.at((*place, n), f'"{name}" is not the name or id of a rule', todo)
                for n, name in enumerate(rules)
                if not isinstance(name, str)
            )

    @cached_property
    def sigma(self) -> SigmaFilter:
        return SigmaFilter.from_dict(copy.deepcopy(self.document.data))


def _source(stated: Any) -> SigmaLogSource | None:
    """A log source; None for one that is faulty, which is reported elsewhere."""
    try:
        return SigmaLogSource.from_dict(stated)
    except Exception:
        return None


class NotApplied(Exception):
    """A filter that is for a rule and that it cannot be given."""


def filtered(document: Document, filters: Sequence[Filter]) -> Document:
    """A rule's document with these filters, which have no faults and are for it, in this order.

    Raises `NotApplied`. A rule that pySigma does not take is given back as it is, to be refused for that.
    """
    if len(filters) > MOST:
        raise NotApplied(f"{len(filters)} filters are for this rule; {MOST} are allowed")
    try:
        rule = SigmaRule.from_dict(copy.deepcopy(document.data))
    except Exception:  # reported as a fault of the rule
        return document
    detection = dict(document.data["detection"])
    stated = detection["condition"]
    own = [str(name) for name in detection if name != "condition"]
    lines, origins = dict(document.lines), dict(document.origins)
    prefixes: dict[str, str] = {}
    for one in filters:
        before, known = list(rule.detection.condition), set(rule.detection.detections)
        rule = cast(SigmaRule, one.sigma.apply_on_rule(rule))
        added = [name for name in rule.detection.detections if name not in known]
        selections = [name for name in one.stated if name not in _OWN]
        if rule.detection.condition == before or len(added) != len(selections):
            raise NotApplied(f'the filter "{one.title}" ({one.place}) is not applied to this rule')
        # pySigma draws a random name for each filter: the same rules must give the same build.
        drawn = added[0].removesuffix(f"_{selections[0]}")
        prefixes[drawn] = prefix = _prefix(len(prefixes) + 1, own)
        for name in selections:
            new = f"{prefix}_{name}"
            detection[new] = copy.deepcopy(one.stated[name])
            origins["detection", new] = one.document.path
            for keys, line in one.document.lines.items():
                if keys[:2] == ("filter", name):
                    lines["detection", new, *keys[2:]] = line
    conditions = [_renamed(text, prefixes) for text in rule.detection.condition]
    for text in stated if isinstance(stated, list) else [stated]:
        _check_patterns(str(text), [str(keys[1]) for keys in origins])
    detection["condition"] = conditions if isinstance(stated, list) else conditions[0]
    data = {**document.data, "detection": detection}
    return replace(document, data=data, lines=lines, origins=origins, condition=stated)


def _prefix(number: int, own: Sequence[str]) -> str:
    """What the names of a filter's selections begin with, and no name of the rule."""
    prefix = f"_filter_{number}"
    while any(name.startswith(prefix) for name in own):
        prefix = f"_{prefix}"
    return prefix


def _renamed(condition: str, prefixes: dict[str, str]) -> str:
    for drawn, prefix in prefixes.items():
        condition = condition.replace(drawn, prefix)
    return condition


def _check_patterns(condition: str, added: Sequence[str]) -> None:
    """pySigma leaves the selections of filters out of a rule's patterns, unless these begin with ``_``."""
    for word in re.findall(r"[^\s()|]+", condition):
        if word.startswith("_") and "*" in word:
            pattern = re.compile(re.escape(word).replace(r"\*", ".*"))
            if any(pattern.fullmatch(name) for name in added):
                raise NotApplied(f'"{word}" in the condition would take in the selections of its filters')

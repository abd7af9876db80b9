"""A rule with another threshold, window or exclusion, tried on a log without editing anything.

The change is made in the Sigma rule, which is then built as any other: so it means the same on every
platform, and a value is a value of a rule, never text that is put into a query.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from detection_pack.build.dist import Built, make
from detection_pack.model.findings import PackError
from detection_pack.model.limits import MAX_COUNT
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule
from detection_pack.model.site_lists import Site, with_site
from detection_pack.model.timespan import Timespan

_CHANGE = re.compile(r"([^.=]+)\.([^.=]+)=(.*)", re.DOTALL)
_TODO = "write RULE.threshold=NUMBER, RULE.window=1h, or RULE.exclude=FIELD:VALUE"
_SELECTION = "filter_trial"


@dataclasses.dataclass(frozen=True)
class Change:
    """One ``--set``, as it was written: the rule's name, the parameter and its value."""

    rule: str
    parameter: str
    value: str

    @property
    def text(self) -> str:
        return f"{self.parameter}={self.value}"


def changes(stated: Sequence[str]) -> list[Change]:
    """What was given with ``--set``. Raises `PackError`."""
    found = []
    for text in stated:
        match = _CHANGE.fullmatch(text)
        if match is None:
            raise PackError.at("--set", 1, f'cannot read "{text}"', _TODO)
        found.append(Change(*match.groups()))
    return found


def tried(pack: Pack, wanted: Sequence[Change], folder: Path) -> Built:
    """The rules with their changes, built for every platform. ``folder`` holds the changed rules. Raises
    `PackError` for a change that cannot be made, and for a rule that it makes invalid."""
    by_rule: dict[str, list[Change]] = {}
    for change in wanted:
        by_rule.setdefault(change.rule, []).append(change)
    rules = [_changed(pack.rule(name), own, folder) for name, own in by_rule.items()]
    return make(dataclasses.replace(pack, rules=tuple(rules)), keep_going=True)


#: What the lists of a site together are called.
ALL_LISTS = "all lists"


def listed(pack: Pack, site: Site, names: Sequence[str]) -> Iterator[tuple[str, Built]]:
    """By the name of each list of the site the rules that it is about, of these names, without what it leaves
    out; at last, where there are several, all lists together. Raises `PackError`."""
    chosen = [pack.rule(name) for name in names if name in pack.by_name]
    by_rule = site.names(chosen)
    lists = list(dict.fromkeys(name for own in by_rule.values() for name in own))
    for name in sorted(lists):
        rules = tuple(rule for rule in chosen if name in by_rule.get(rule.name, ()))
        changed = with_site(dataclasses.replace(pack, rules=rules), site.only(name))
        yield name, make(changed, keep_going=True)
    if len(lists) > 1:
        rules = tuple(rule for rule in chosen if rule.name in by_rule)
        yield ALL_LISTS, make(with_site(dataclasses.replace(pack, rules=rules), site), keep_going=True)


def _changed(rule: Rule, wanted: Sequence[Change], folder: Path) -> Rule:
    documents = [copy.deepcopy(document.data) for document in rule.documents]
    for change in wanted:
        made = _PARAMETERS.get(change.parameter)
        if made is None:
            what = f'"{rule.name}" has no parameter "{change.parameter}"'
            raise PackError.at("--set", 1, what, f"use {', '.join(_PARAMETERS)}")
        made(documents, change)
    path = folder / rule.tier / f"{rule.name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all(documents, allow_unicode=False, sort_keys=False), encoding="utf-8")
    return load_rule(path, rule.tier)


def _correlation(documents: Sequence[Mapping[str, Any]], change: Change) -> dict[str, Any]:
    for document in documents:
        if isinstance(document.get("correlation"), dict):
            found: dict[str, Any] = document["correlation"]
            return found
    what = f'"{change.rule}" counts nothing, so it has no {change.parameter}'
    raise PackError.at("--set", 1, what, "set it on a correlation")


def _threshold(documents: Sequence[Mapping[str, Any]], change: Change) -> None:
    condition = _correlation(documents, change).get("condition")
    bounds = [key for key in condition if key != "field"] if isinstance(condition, dict) else []
    if not isinstance(condition, dict) or len(bounds) != 1:
        raise PackError.at("--set", 1, f'"{change.rule}" has not one threshold', "edit a copy of the rule")
    if not re.fullmatch("[0-9]{1,10}", change.value) or int(change.value) > MAX_COUNT:
        raise PackError.at("--set", 1, f'"{change.value}" is not a threshold', "write a whole number")
    condition[bounds[0]] = int(change.value)


def _window(documents: Sequence[Mapping[str, Any]], change: Change) -> None:
    try:
        Timespan.parse(change.value)
    except ValueError as error:
        raise PackError.at(
            "--set", 1, f'"{change.value}" is not a window', "write one such as 30m or 2h"
        ) from error
    _correlation(documents, change)["timespan"] = change.value


def _exclude(documents: Sequence[Mapping[str, Any]], change: Change) -> None:
    field, colon, value = change.value.partition(":")
    if not colon or not re.fullmatch(r"[\w.{}-]+", field) or not value:
        raise PackError.at("--set", 1, f'"{change.value}" excludes nothing', "write FIELD:VALUE")
    # A value of a trial is what it says: an asterisk is one.
    literal = re.sub(r"([\\*?])", r"\\\1", value)
    for document in documents:
        detection = document.get("detection")
        if not isinstance(detection, dict):
            continue
        excluded = detection.setdefault(_SELECTION, {})
        if not excluded:
            stated = detection["condition"]
            listed = stated if isinstance(stated, list) else [stated]
            detection["condition"] = [f"({one}) and not 1 of {_SELECTION}*" for one in listed]
            if not isinstance(stated, list):
                [detection["condition"]] = detection["condition"]
        name = _SELECTION if not excluded else f"{_SELECTION}_{len(detection)}"
        detection[name] = {field: literal}


_PARAMETERS: Mapping[str, Callable[[Sequence[Mapping[str, Any]], Change], None]] = {
    "threshold": _threshold,
    "window": _window,
    "exclude": _exclude,
}

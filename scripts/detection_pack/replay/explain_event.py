"""The event that somebody asks about: an id out of the rule's events file, or a record of an export."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from detection_pack.model.case import events_file, load_cases, log_source_of
from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule
from detection_pack.model.rule_files import is_yaml
from detection_pack.model.rule_reader import load_rule
from detection_pack.replay.reading import read

_NAMED = 5
#: Ids that are compared with one that nobody has: each takes microseconds, and an export holds millions.
_COMPARED = 10_000


@dataclass(frozen=True)
class FoundEvent:
    """``origin``: its file and line. ``context``: the events that stand with it, itself among them."""

    event: Event
    origin: str
    context: tuple[Event, ...]


def asked_rule(pack: Pack, name: str) -> Rule:
    """The pack's rule of this name, or anybody's out of a file. Raises `PackError`."""
    known = pack.by_name
    if name in known:
        return known[name]
    path = Path(name)
    if is_yaml(path) and path.exists():
        return load_rule(path, "other", named_by_stem=True)
    raise PackError.at(
        "RULE", 1, f'is no rule of the pack: "{name}"', f"use {', '.join(known)}, or a rule's file"
    )


def case_event(pack: Pack, rule: Rule, identifier: str) -> FoundEvent:
    """An event of tests/events/<rule>.yml, with those of its case. Raises `PackError`."""
    path = events_file(pack.root, rule.name)
    if not path.is_file():
        raise PackError.at(path, 1, "is not there", "give the export with the event: --log FILE")
    cases = load_cases(path, log_source_of(rule, pack.sources))
    for case in cases:
        for event in case.events:
            if event.id == identifier:
                return FoundEvent(event, f"{path}:{case.line}", case.events)
    raise _unknown(str(path), identifier, [event.id for case in cases for event in case.events])


def log_event(rule: Rule, sources: Mapping[str, LogSource], paths: Sequence[Path], asked: str) -> FoundEvent:
    """A record of an export, by its id or as FILE:LINE, with the others of its log source.

    FILE is a path as it was given or its last part; two records of one name are told apart by the line.
    Raises `PackError`.
    """
    source = log_source_of(rule, sources)
    whole = {name: None if name == source.name else frozenset[str]() for name in sources}
    with read(paths, sources, whole) as reading:
        context = tuple(event for event in reading.events() if event.source is source)
        placed = reading.located(source.name, [event.id for event in context])
    found = []
    for event in context:
        at = placed[event.id]
        if asked in (event.id, f"{at.path}:{at.line}", f"{PurePath(at.path).name}:{at.line}"):
            found.append((event, at))
    if not found:
        raise _unknown(str(paths[0]), asked, [event.id for event in context])
    event, at = found[0]
    if len(found) > 1:
        places = ", ".join(f"{other.path}:{other.line}" for _, other in found[:_NAMED])
        raise PackError.at(at.path, at.line, f'"{asked}" names {len(found)} records', f"use {places}")
    return FoundEvent(event, f"{at.path}:{at.line}", context)


def _unknown(path: str, asked: str, known: Sequence[str]) -> PackError:
    """The nearest ids are more help than the first."""
    near = difflib.get_close_matches(asked, known[:_COMPARED], _NAMED) or list(known[:_NAMED])
    todo = (
        f"use an id such as {', '.join(near)}" if near else "name a file that holds records of its log source"
    )
    return PackError.at(path, 1, f'holds no event "{asked}" for the rule', todo)

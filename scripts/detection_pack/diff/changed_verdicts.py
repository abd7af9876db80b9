"""Two builds of a rule on the same events: which verdicts are no longer what they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.build.dist import rule_entries
from detection_pack.model.case import Case
from detection_pack.model.event import Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.replay.verdict import execute


@dataclass(frozen=True)
class VerdictChange:
    """One case whose verdict changes on one platform.

    ``lost`` and ``gained`` name what was found and no longer is, and the reverse: events by id, or a
    correlation's groups and windows. ``artefacts`` are those of dist/ that show it.
    """

    case: str
    path: str
    line: int
    expected: bool
    platform: str
    artefacts: tuple[str, ...]
    lost: tuple[str, ...]
    gained: tuple[str, ...]


class NotExecutable(PackError):
    """The base's queries cannot be executed by the engines of today."""


Found = dict[tuple[int, str, str], frozenset[str]]


def changed_verdicts(
    name: str, before: Path, after: Path, cases: Sequence[Case], only: frozenset[int] | None = None
) -> list[VerdictChange]:
    """The cases (of ``only`` these, by their place) that two dist/ folders judge differently.

    All cases stand in one table, as in a replay. Raises `NotExecutable` for ``before``, `PackError` for
    ``after``.
    """
    try:
        was = _found(before, name, cases)
    except PackError as error:
        raise NotExecutable(error.findings) from error
    except UnicodeDecodeError as error:
        raise NotExecutable.at(before, 1, "a file is not UTF-8", "build dist/ again") from error
    now = _found(after, name, cases)
    was, now = _paired(was, now, _shared(name, before, after))
    changes = []
    for number, case in enumerate(cases):
        if only is not None and number not in only:
            continue
        for platform in PLATFORMS:
            artefacts: list[str] = []
            lost: set[str] = set()
            gained: set[str] = set()
            for key in sorted(k for k in was.keys() | now.keys() if k[:2] == (number, platform)):
                then, today = was.get(key, frozenset()), now.get(key, frozenset())
                if then != today:
                    artefacts.append(key[2])
                    lost |= then - today
                    gained |= today - then
            if artefacts:
                about = (case.title, f"tests/events/{case.path.name}", case.line, case.matches, platform)
                change = VerdictChange(*about, tuple(artefacts), tuple(sorted(lost)), tuple(sorted(gained)))
                changes.append(change)
    return changes


def records_of(case: Case) -> str:
    """What a case feeds to a query, without its title and the ids that its place in the file gives it."""
    return "\n".join(
        json.dumps({k: v for k, v in json.loads(event.json()).items() if k != "Id"}, sort_keys=True)
        for event in case.events
    )


def _found(dist: Path, name: str, cases: Sequence[Case]) -> Found:
    """What each artefact found of each case."""
    entry = next(entry for entry in rule_entries(dist) if entry.name == name)
    executed = execute(dist, {name: cases})
    return {
        (number, platform, artefact): found
        for (_, platform), hits in executed.items()
        for artefact, own in _by_artefact(hits).items()
        for number, case in enumerate(cases)
        if (found := _of_case(case, entry, own))
    }


def _shared(name: str, *folders: Path) -> Callable[[str], bool]:
    """Whether an artefact of a hit is one that holds every rule, or a place in it."""
    own = {p for dist in folders for e in rule_entries(dist) if e.name == name for p in e.artefacts}
    return lambda artefact: artefact not in own


def _paired(was: Found, now: Found, shared: Callable[[str], bool]) -> tuple[Found, Found]:
    """The same, but for files that hold every rule and got another name or were split: a platform's are
    compared as one, or each would lose and gain what has only moved. The artefact names all of them."""
    names: list[dict[str, list[str]]] = []
    for mine, other in ((was, now), (now, was)):
        there = {key[1:] for key in other}
        moved: dict[str, list[str]] = {}
        for platform, artefact in sorted({key[1:] for key in mine} - there):
            if shared(artefact):
                moved.setdefault(platform, []).append(artefact)
        names.append(moved)
    both = {p: " to ".join(", ".join(moved[p]) for moved in names) for p in names[0].keys() & names[1].keys()}
    paired: list[Found] = []
    for found, moved in zip((was, now), names, strict=True):
        joined: Found = {}
        for (number, platform, artefact), ids in found.items():
            as_one = platform in both and artefact in moved[platform]
            key = (number, platform, both[platform] if as_one else artefact)
            joined[key] = joined.get(key, frozenset()) | ids
        paired.append(joined)
    return paired[0], paired[1]


def _by_artefact(hits: Sequence[Hit]) -> Mapping[str, list[Hit]]:
    parted: dict[str, list[Hit]] = {}
    for hit in hits:
        parted.setdefault(hit.artefact, []).append(hit)
    return parted


def _of_case(case: Case, entry: RuleEntry, hits: Sequence[Hit]) -> frozenset[str]:
    if entry.window is None:
        ids = {event.id for event in case.events}
        return frozenset(event for hit in hits for event in hit.events if event in ids)
    if not entry.group_by:
        return frozenset(map(_label, hits))
    # Cases of one file do not share the first group field, so its value tells whose alert this is.
    owned = case.values_of(entry.group_by[0])
    return frozenset(_label(hit) for hit in hits if hit.group and hit.group[0][1].lower() in owned)


def _label(hit: Hit) -> str:
    group = ", ".join(f"{field}={value.lower()}" for field, value in hit.group or ()) or "all events"
    return f"{group} from {hit.window.strftime('%Y-%m-%dT%H:%M:%SZ') if hit.window else 'an unknown time'}"

"""The end of a build: how many rules each platform has, and for which reasons it refused the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.build.outcomes import Outcome
from detection_pack.model.findings import Finding
from detection_pack.model.text_table import columns, cut

#: Reasons that the table names; JSON has all of them.
NAMED = 20
#: Characters of a reason in the table.
_LONGEST = 200


@dataclass(frozen=True)
class Reason:
    """Why rules were refused, and how many of them. A rule with two faults counts under both reasons."""

    what: str
    rules: int

    def as_json(self) -> dict[str, Any]:
        return {"reason": self.what, "rules": self.rules}


@dataclass(frozen=True)
class PlatformTally:
    """One platform: rules built, rules that it is not given for lack of data, rules refused and why, the most
    frequent reason first."""

    platform: str
    built: int
    absent: int = 0
    refused: int = 0
    reasons: tuple[Reason, ...] = ()

    def as_json(self) -> dict[str, Any]:
        counts = {"built": self.built, "absent": self.absent, "refused": self.refused}
        return {"platform": self.platform, **counts, "reasons": [one.as_json() for one in self.reasons]}


@dataclass(frozen=True)
class Tally:
    """All platforms in their order, and what could not be read as a rule at all."""

    platforms: tuple[PlatformTally, ...] = ()
    unread: int = 0
    unread_reasons: tuple[Reason, ...] = ()

    def as_json(self) -> dict[str, Any]:
        unread = {"refused": self.unread, "reasons": [one.as_json() for one in self.unread_reasons]}
        return {"platforms": [one.as_json() for one in self.platforms], "unread": unread}

    def text(self) -> str:
        """The tables, for people: no line of it comes from a file unescaped."""
        head = [
            "platform",
            "built",
            "refused",
            *(["no data"] if any(p.absent for p in self.platforms) else []),
        ]
        rows = [
            [one.platform, str(one.built), str(one.refused), str(one.absent)][: len(head)]
            for one in self.platforms
        ]
        lines = columns([head, *rows])
        if self.unread:
            lines += ["", f"{self.unread} could not be read as rules, and are built nowhere"]
        return "\n".join([*lines, *self._reasons()])

    def _reasons(self) -> list[str]:
        """Each reason once, with the rules that each platform refused for it."""
        parts = [(one.platform, one.reasons) for one in self.platforms]
        parts += [("unread", self.unread_reasons)] if self.unread else []
        counts = {name: {one.what: one.rules for one in reasons} for name, reasons in parts}
        totals = sum((Counter(listed) for listed in counts.values()), Counter[str]())
        ordered = sorted(totals, key=lambda what: (-totals[what], what))
        if not ordered:
            return []
        rows = [
            [*(str(listed.get(what, "")) for listed in counts.values()), shown(what)]
            for what in ordered[:NAMED]
        ]
        lines = ["", *columns([[*counts, "refused because"], *rows])]
        left = len(ordered) - NAMED
        return [*lines, f"{left} more reasons: --format json"] if left > 0 else lines


def tally(
    found: Sequence[Outcome], taken: Iterable[tuple[Outcome, Finding]], platforms: Sequence[str]
) -> Tally:
    """What became of the outcomes. ``taken``: those that were built and have the name or id of another."""
    clash = {id(one): finding for one, finding in taken}
    listed = []
    for name in platforms:
        refusals = [
            one.refused[name] if name in one.refused else (clash[id(one)],)
            for one in found
            if name in one.refused or (name in one.parts and id(one) in clash)
        ]
        built = sum(name in one.parts and id(one) not in clash for one in found)
        absent = sum(name in one.absent for one in found)
        listed.append(PlatformTally(name, built, absent, len(refusals), _reasons(refusals)))
    unread = [one.unread for one in found if one.unread]
    return Tally(tuple(listed), len(unread), _reasons(unread))


def _reasons(refusals: Sequence[Sequence[Finding]]) -> tuple[Reason, ...]:
    counted = Counter(what for said in refusals for what in {finding.what for finding in said})
    return tuple(Reason(what, n) for what, n in sorted(counted.items(), key=lambda one: (-one[1], one[0])))


def shown(text: str) -> str:
    """Text out of a file as one short line of a table."""
    return cut(text, _LONGEST)

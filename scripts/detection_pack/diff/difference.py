"""What a comparison of two builds says: the rules that change for users, why, and the version it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from semver import Version

from detection_pack.diff.changed_verdicts import VerdictChange
from detection_pack.diff.versions import Bump, raised


@dataclass(frozen=True)
class FileChange:
    """A file of dist/; None where it is not there. ``formerly`` is its path before, if that was another."""

    path: str
    before: str | None
    after: str | None
    formerly: str | None = None


@dataclass(frozen=True)
class SharedChange:
    """A file that holds every rule. ``kind`` is "added", "removed" or "changed"."""

    path: str
    kind: str

    @property
    def bump(self) -> Bump:
        return {"added": Bump.MINOR, "removed": Bump.MAJOR}.get(self.kind, Bump.PATCH)


@dataclass(frozen=True)
class ValueChange:
    """A key of a rule or a setting of an import; None where it is not there."""

    of: str
    before: str | None
    after: str | None


def values(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[ValueChange, ...]:
    """The keys whose values differ, in the order of the old ones."""
    keys = [*old, *(key for key in new if key not in old)]
    return tuple(ValueChange(k, old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k))


def differing_keys(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """The keys whose values differ, sorted."""
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def shown(value: object) -> str:
    """A value of a rule as text: JSON unless it is text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Reason:
    bump: Bump
    why: str


@dataclass(frozen=True)
class RuleChange:
    """``kind`` is "added", "removed" or "changed". ``other_files`` are those that are no query,
    and the places of the rule in files that hold every rule."""

    name: str
    kind: str
    title: str
    tiers: tuple[str, str]
    reasons: tuple[Reason, ...]
    queries: tuple[FileChange, ...] = ()
    other_files: tuple[str, ...] = ()
    about: tuple[ValueChange, ...] = ()
    settings: tuple[ValueChange, ...] = ()
    verdicts: tuple[VerdictChange, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def bump(self) -> Bump:
        return max((reason.bump for reason in self.reasons), default=Bump.NONE)


@dataclass(frozen=True)
class TestChange:
    """How many cases a rule's events file gains and loses; a case with another record is one of each."""

    __test__ = False
    rule: str
    added: int
    removed: int


@dataclass(frozen=True)
class Report:
    base: str
    base_version: Version
    head_version: Version
    rules: tuple[RuleChange, ...]
    shared: tuple[SharedChange, ...]
    tests: tuple[TestChange, ...]

    @property
    def bump(self) -> Bump:
        bumps = [*(rule.bump for rule in self.rules), *(file.bump for file in self.shared)]
        return max(bumps, default=Bump.NONE)

    @property
    def required(self) -> Version:
        """The lowest version that may ship the change."""
        return raised(self.base_version, self.bump)

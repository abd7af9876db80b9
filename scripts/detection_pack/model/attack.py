"""ATT&CK as data: the tactics and techniques of one version, and what a rule's tags name of them.

The pack carries one version (`attack.csv`); for a run `using` puts another in its place (`attack_bundle`
reads one). ATT&CK changes twice a year, so a tag that it does not know is something to be told of and never
keeps a rule from being built.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from detection_pack.model.findings import Finding, Severity
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule

_SITE = "https://attack.mitre.org"

#: The ids of the findings that this module makes.
UNKNOWN_TECHNIQUE = "unknown-technique"
RETIRED_TECHNIQUE = "retired-technique"

_TECHNIQUE = re.compile(r"t[0-9]{4}(\.[0-9]{3})?")


@dataclass(frozen=True)
class Tactic:
    """``short`` is the name that Sigma's tags use, such as ``credential-access``."""

    id: str
    name: str
    short: str

    @property
    def reference(self) -> str:
        return f"{_SITE}/tactics/{self.id}/"


@dataclass(frozen=True)
class Technique:
    """A technique or sub-technique; ``tactics`` are short names."""

    id: str
    name: str
    tactics: tuple[str, ...]

    @property
    def parent(self) -> str | None:
        """The id of a sub-technique's technique."""
        return parent_of(self.id)

    @property
    def reference(self) -> str:
        return f"{_SITE}/techniques/{self.id.replace('.', '/')}/"


@dataclass(frozen=True)
class Attack:
    """One version of ATT&CK Enterprise; the version is empty where its file states none.

    ``tactics`` are by short name, in the order of the matrix, and ``techniques`` by id. ``revoked`` has the
    id that stands in for a revoked one, which is empty where none is known. ``former_tactics``: what became
    of a tactic that is gone, by its short name.
    """

    version: str
    tactics: Mapping[str, Tactic]
    techniques: Mapping[str, Technique]
    revoked: Mapping[str, str] = field(default_factory=dict)
    deprecated: frozenset[str] = frozenset()
    former_tactics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"ATT&CK Enterprise {self.version}".strip()

    def fault_of(self, name: str) -> tuple[str, str, str] | None:
        """The check, what is wrong and what to do, where a tag's ``t…`` names no technique in use."""
        key = name.upper() if _TECHNIQUE.fullmatch(name) else ""
        if key in self.techniques:
            return None
        if key in self.revoked:
            successor = self.techniques.get(self.revoked[key])
            instead = f"use attack.{successor.id.lower()} ({successor.name})" if successor else _LOOK_UP
            return (
                RETIRED_TECHNIQUE,
                f'the tag "attack.{name}" names a technique that {self} revoked',
                instead,
            )
        if key in self.deprecated:
            what = f'the tag "attack.{name}" names a technique that {self} deprecated'
            return RETIRED_TECHNIQUE, what, _LOOK_UP
        near = difflib.get_close_matches(name.upper(), list(self.techniques), n=1, cutoff=0.8)
        meant = f', or be "attack.{near[0].lower()}" ({self.techniques[near[0]].name})' if near else ""
        what = f'the tag "attack.{name}" names no technique of {self}'
        return UNKNOWN_TECHNIQUE, what, f"look it up on attack.mitre.org: it may be newer or retired{meant}"


_LOOK_UP = "look for what replaces it on attack.mitre.org"


def parent_of(technique: str) -> str | None:
    """The id of a sub-technique's technique."""
    parent, dot, _ = technique.partition(".")
    return parent if dot else None


_in_use: ContextVar[Attack | None] = ContextVar("attack", default=None)


def attack() -> Attack:
    """The version in use: the pack's own, unless this is `using` another."""
    return _in_use.get() or packaged()


@contextmanager
def using(other: Attack) -> Iterator[None]:
    """Have `attack` give this version inside the block."""
    before = _in_use.set(other)
    try:
        yield
    finally:
        _in_use.reset(before)


@cache
def packaged() -> Attack:
    """The version that the pack carries."""
    with Path(__file__).with_name("attack.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in {row["kind"] for row in rows}}
    return Attack(
        version=kinds["version"][0]["id"],
        tactics={r["tactics"]: Tactic(r["id"], r["name"], r["tactics"]) for r in kinds["tactic"]},
        techniques={
            r["id"]: Technique(r["id"], r["name"], tuple(r["tactics"].split())) for r in kinds["technique"]
        },
        revoked={r["id"]: r["successor"] for r in kinds["revoked"]},
        former_tactics={r["tactics"]: tuple(r["successor"].split()) for r in kinds["former tactic"]},
    )


def techniques_of(rule: Rule) -> tuple[Technique, ...]:
    """The techniques in use that the rule's tags name; any other tag is passed over."""
    known = attack().techniques
    return tuple(dict.fromkeys(known[key] for key in rule.techniques if key in known))


def tactics_of(rule: Rule) -> tuple[Tactic, ...]:
    """What the rule's tags name as tactics, in either of Sigma's spellings; other tags are passed over.

    A tactic that is gone stands for those of its successors that the rule's techniques serve, or for the
    first: that is the tactic which kept its id.
    """
    known, former = attack().tactics, attack().former_tactics
    found: list[str] = []
    for short in tactic_tags(rule):
        served = {tactic for technique in techniques_of(rule) for tactic in technique.tactics}
        became = former.get(short, ())
        found += [short] if short in known else [s for s in became if s in served] or became[:1]
    return tuple(dict.fromkeys(known[short] for short in found))


def tactic_tags(rule: Rule) -> tuple[str, ...]:
    """The rule's ATT&CK tags as short names of tactics are written now, whatever they name."""
    named = (tag.removeprefix("attack.") for tag in rule.tags if tag.startswith("attack."))
    return tuple(name.replace("_", "-") for name in named)


def technique_faults(reading: Reading, severity: Severity) -> Iterator[Finding]:
    """Each tag, at its line, that names a technique which is unknown or no longer in use."""
    for document in reading.documents:
        tags = document.data.get("tags")
        for index, tag in enumerate(tags if isinstance(tags, list) else ()):
            prefix, _, name = str(tag).partition(".")
            if prefix == "attack" and is_technique_tag(name) and (fault := attack().fault_of(name)):
                check, what, todo = fault
                yield reading.at(check, document, ("tags", index), what, todo, severity)


def is_technique_tag(name: str) -> bool:
    """Whether a tag without its ``attack.`` means a technique, if in digits of another script."""
    return re.match(r"t\d", name, re.IGNORECASE) is not None

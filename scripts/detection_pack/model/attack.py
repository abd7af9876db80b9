"""Names of ATT&CK tactics and techniques, for formats that want more than an id.

Source: `attack.csv`, Enterprise 18.1; a technique's tactics are short names separated by blanks.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from detection_pack.model.findings import Finding, PackError
from detection_pack.model.rule import Rule

_SITE = "https://attack.mitre.org"

#: The id of the findings that this module makes.
UNKNOWN_TECHNIQUE = "unknown-technique"


@dataclass(frozen=True)
class Tactic:
    """``short`` is the name that Sigma's tags use, such as ``defense-evasion``."""

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
        return self.id.partition(".")[0] if "." in self.id else None

    @property
    def reference(self) -> str:
        return f"{_SITE}/techniques/{self.id.replace('.', '/')}/"


@cache
def tactics() -> Mapping[str, Tactic]:
    """Every tactic by its short name, in ATT&CK's order of ids."""
    return {short: Tactic(key, name, short) for key, name, short in _rows() if key.startswith("TA")}


@cache
def techniques() -> Mapping[str, Technique]:
    """Every technique and sub-technique by its id."""
    return {
        key: Technique(key, name, tuple(of.split())) for key, name, of in _rows() if not key.startswith("TA")
    }


def techniques_of(rule: Rule) -> tuple[Technique, ...]:
    """What the rule's ``attack.t…`` tags name. Raises `PackError`, at its line, for an unknown one."""
    found, faults = [], []
    for index, tag in enumerate(rule.tags):
        if not (match := re.fullmatch(r"attack\.(t\d{4}(?:\.\d{3})?)", tag)):
            continue
        key = match[1].upper()
        if key in techniques():
            found.append(techniques()[key])
            continue
        what, todo = unknown_technique(match[1])
        faults.append(Finding(str(rule.path), rule.main.line("tags", index), what, todo, UNKNOWN_TECHNIQUE))
    if faults:
        raise PackError(faults)
    return tuple(dict.fromkeys(found))


def unknown_technique(name: str) -> tuple[str, str]:
    """What is wrong with a tag that names no technique, without its ``attack.``, and what to do."""
    near = difflib.get_close_matches(name.upper(), list(techniques()), n=1, cutoff=0.8)
    todo = "look it up on attack.mitre.org: it may be retired"
    hint = f', or be "attack.{near[0].lower()}" ({techniques()[near[0]].name})' if near else ""
    return f'the tag "attack.{name}" names no technique of ATT&CK Enterprise', todo + hint


def tactics_of(rule: Rule) -> tuple[Tactic, ...]:
    """What the rule's tags name as tactics, in either of Sigma's spellings; other tags are passed over."""
    named = (tag.removeprefix("attack.").replace("_", "-") for tag in rule.tags if tag.startswith("attack."))
    return tuple(dict.fromkeys(tactics()[short] for short in named if short in tactics()))


@cache
def _rows() -> tuple[tuple[str, str, str], ...]:
    path = Path(__file__).with_name("attack.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return tuple((row[0], row[1], row[2]) for row in list(csv.reader(file))[1:])

"""The words that `corpus` makes rules from, as `corpus_words.yml` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Program:
    """A program: its file name, and the original file name in its version resource."""

    name: str
    original: str

    @property
    def stem(self) -> str:
        return "".join(c if c.isalnum() else "_" for c in self.name.rsplit(".", 1)[0].lower())


_LISTED: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))

PROGRAMS = tuple(Program(*names) for names in _LISTED["programs"])
TACTICS: tuple[tuple[str, tuple[str, ...]], ...] = tuple((t, tuple(found)) for t, found in _LISTED["tactics"])


def _words(name: str) -> tuple[str, ...]:
    return tuple(_LISTED[name])


VERBS = _words("verbs")
ADJECTIVES = _words("adjectives")
FLAGS = _words("flags")
PATHS = _words("paths")
NAMES = _words("names")
CMDLETS = _words("cmdlets")
URLS = _words("urls")
EXTENSIONS = _words("extensions")
LETTERS = _words("letters")
EXPRESSIONS = _words("expressions")
NON_ASCII = _words("non_ascii")
QUOTED = _words("quoted")
OTHER_FIELDS = _words("other_fields")
VENDORS = _words("vendors")
OPERATIONS = _words("operations")
PARAMETERS = _words("parameters")
SUBJECTS = _words("subjects")
FALSE_POSITIVES = _words("false_positives")

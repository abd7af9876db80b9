"""What a finding's code means: what it finds, why, how to mend it, and an example before and after."""

from __future__ import annotations

import difflib
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from detection_pack.checks import conventions
from detection_pack.checks.catalogue import CheckInfo, catalogue

EXAMPLES = "docs/checks.yml"


def explained(code: str, root: Path) -> str | None:
    """The text for a person, of several lines; None for a code that no check has. ``root`` is the pack's."""
    info = _all().get(code)
    if info is None:
        return None
    parts = [f"{code} ({info.severity})", _filled(f"{info.about}."), _filled(info.help), _filled(info.mend)]
    if example := examples(root).get(code):
        parts += [f"For example, {example['says']}", f"before:\n{_indented(example['before'])}"]
        parts.append(f"after:\n{_indented(example['after'])}")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def nearest(code: str) -> str:
    """What to do about a code that is none."""
    near = difflib.get_close_matches(code, _all(), n=3, cutoff=0.5)
    listed = " or ".join(f'"{one}"' for one in near)
    return f"did you mean {listed}?" if near else "see docs/checks.md for all of them"


@cache
def examples(root: Path) -> dict[str, dict[str, Any]]:
    """By code: ``before`` and ``after``, lines of a rule of the pack with the fault and without, and what
    validation ``says`` of it. They are made from the faults that the tests plant, and stand with the pack,
    because they name what its log sources hold; another pack may have none."""
    path = root / EXAMPLES
    if not path.is_file():
        return {}
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


@cache
def _all() -> dict[str, CheckInfo]:
    return {**catalogue(), **conventions.catalogue()}


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_on_hyphens=False, break_long_words=False)


def _indented(text: str) -> str:
    return textwrap.indent(text or "(nothing)", "  ")

"""What validation says of every planted fault, and the examples of `validate --explain`.

`PYTHONPATH=scripts:tests python -m support.messages` writes both files anew, from tests/data/faults.yml. Read
the difference before committing it: each line is what an author reads at night.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from conftest import ROOT
from detection_pack.checks import explanation
from detection_pack.checks.reporters import Report, text
from detection_pack.checks.validate import validate
from detection_pack.model.findings import Finding
from support.checkout import copy_of_the_sources

DATA = Path(__file__).parents[1] / "data"
MESSAGES = DATA / "messages.yml"
EXAMPLES = ROOT / explanation.EXAMPLES
RENEW = "PYTHONPATH=scripts:tests python -m support.messages, and read the difference"
#: Longer examples explain nothing.
_MOST_LINES = 12


@dataclass(frozen=True)
class Fault:
    """An entry of `data/faults.yml`, which says what the fields mean."""

    check: str
    said: str
    file: str
    old: str
    new: str
    at: str | int
    severity: str = "error"
    times: int = 1


def all_faults() -> dict[str, Fault]:
    listed = yaml.safe_load((DATA / "faults.yml").read_text(encoding="utf-8"))
    return {name: Fault(**fields) for name, fields in listed.items()}


def message(findings: Sequence[Finding], root: Path) -> str:
    """The text output, with paths against the pack's folder."""
    return text(Report(findings, root, "0", {})).replace(f"{root}/", "")


def example(fault: Fault, findings: Sequence[Finding], root: Path) -> dict[str, str] | None:
    """The lines that differ and the one before them; None where an example would be long, or no text."""
    after = (ROOT / fault.file).read_text(encoding="utf-8").split("\n")
    before = (root / fault.file).read_text(encoding="utf-8").split("\n")
    changes = [
        c for c in difflib.SequenceMatcher(None, before, after, False).get_opcodes() if c[0] != "equal"
    ]
    (_, first, _, after_first, _), (_, _, last, _, after_last) = changes[0], changes[-1]
    lead = 1 if first and after_first else 0
    wrong, right = before[first - lead : last], after[after_first - lead : after_last]
    shown = [*wrong, *right]
    if len(shown) > _MOST_LINES or any(len(line) > 100 or "\t" in line for line in shown):
        return None
    said = str(findings[0]).replace(f"{root}/", "")
    return {"says": said, "before": "\n".join(wrong), "after": "\n".join(right)}


def made() -> tuple[str, str]:
    """The texts of both files."""
    messages: dict[str, str] = {}
    shown: dict[str, list[dict[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of_the_sources(Path(folder).resolve())
        for name, fault in all_faults().items():
            path = root / fault.file
            whole = path.read_text(encoding="utf-8")
            path.write_text(whole.replace(fault.old, fault.new, 1), encoding="utf-8")
            findings = validate(root, [path], execute=False)
            messages[name] = message(findings, root)
            if one := example(fault, findings, root):
                shown.setdefault(fault.check, []).append(one)
            path.write_text(whole, encoding="utf-8")
    best = {check: min(listed, key=_roughness) for check, listed in shown.items()}
    return _dumped(_ABOUT_MESSAGES, messages), _dumped(_ABOUT_EXAMPLES, best)


def _roughness(one: Mapping[str, str]) -> tuple[bool, bool]:
    """A line that is mended shows more than one that goes."""
    return "#" in one["before"], one["before"].count("\n") != one["after"].count("\n")


_ABOUT_MESSAGES = f"""# What `detection-pack validate` prints of each fault of faults.yml, by its name.
# After a change of a message write it anew with
#   {RENEW}.
"""
_ABOUT_EXAMPLES = """# One example a code, for `detection-pack validate --explain`, made from
# tests/data/faults.yml by tests/support/messages.py, which says how.
"""


class _Literal(yaml.SafeDumper):
    """Text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Literal.add_representer(str, _text)


def _dumped(about: str, value: Mapping[str, object]) -> str:
    return about + yaml.dump(value, Dumper=_Literal, allow_unicode=True, sort_keys=False, width=10_000)


if __name__ == "__main__":
    for path, content in zip((MESSAGES, EXAMPLES), made(), strict=True):
        path.write_text(content, encoding="utf-8")

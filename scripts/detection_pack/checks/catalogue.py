"""The checks by their ids: what each finds, how grave it is, and what helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from detection_pack.model.findings import Finding, Severity


@dataclass(frozen=True)
class CheckInfo:
    """``about`` is one line, ``help`` a paragraph, ``severity`` what a finding has by default, ``mend`` what
    an author does about it."""

    id: str
    about: str
    help: str
    severity: Severity = "error"
    mend: str = ""


@cache
def catalogue() -> Mapping[str, CheckInfo]:
    """Every check but SigmaHQ's (`conventions.catalogue`), in the order of the file."""
    path = Path(__file__).with_name("catalogue.yml")
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        check: CheckInfo(check, entry["about"], entry["help"], entry.get("severity", "error"), entry["mend"])
        for check, entry in listed.items()
    }


def found(
    check: str, path: Path, line: int, what: str, todo: str, severity: Severity | None = None
) -> Finding:
    """A finding of a check that the catalogue has; any other id is a `KeyError`."""
    return Finding(str(path), line, what, todo, check, severity or catalogue()[check].severity)

"""What is wrong, where, and what to do: the one shape of every error the pack reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]
#: The check of a finding that names none: what a build refuses.
REFUSED = "refused"


@dataclass(frozen=True, order=True)
class Finding:
    """One fault in one file.

    ``line`` counts from 1. ``str()`` gives ``path:line: what; what to do`` on a single line, ``warning:``
    before what is no error, whatever characters the fault quotes: control and bidirectional characters are
    shown as escapes, so that an untrusted file can neither forge a second line of output nor steer a
    terminal. ``check`` is the stable id of what found it (`checks.catalogue`).
    """

    path: str
    line: int
    what: str
    todo: str
    check: str = REFUSED
    severity: Severity = "error"

    def __str__(self) -> str:
        mark = "warning: " if self.severity == "warning" else ""
        return f"{_printable(self.path)}:{self.line}: {mark}{_printable(self.what)}; {_printable(self.todo)}"


class PackError(Exception):
    """One or more findings that end the work on a rule or on the whole pack."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))

    @classmethod
    def at(cls, path: Path | str, line: int, what: str, todo: str, check: str = REFUSED) -> PackError:
        """A single finding as an exception."""
        return cls([Finding(str(path), line, what, todo, check)])


def printable(text: str) -> str:
    """The text with every character that does not print as an escape, such as ``\\u202e``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _printable(text: str, limit: int = 400) -> str:
    shown = printable(text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"

"""What is wrong, where, and what to do: the one shape of every error the pack reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Finding:
    """One fault in one file.

    ``line`` counts from 1. ``str()`` gives ``path:line: what; what to do`` on a single line, whatever
    characters the fault quotes: control and bidirectional characters are shown as escapes, so that a
    file from a stranger can neither forge a second line of output nor steer a terminal.
    """

    path: str
    line: int
    what: str
    todo: str

    def __str__(self) -> str:
        return f"{printable(self.path)}:{self.line}: {printable(self.what)}; {printable(self.todo)}"


class PackError(Exception):
    """One or more findings that end the work on a rule or on the whole pack."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))

    @classmethod
    def at(cls, path: Path | str, line: int, what: str, todo: str) -> PackError:
        """A single finding as an exception."""
        return cls([Finding(str(path), line, what, todo)])


def printable(text: str, limit: int = 400) -> str:
    """The text on one line, with what is not printable as escapes: no terminal takes it for a command."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"

"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from detection_pack.model.findings import printable


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines, the first row its head, with a rule below it."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in ruled]


def cut(text: str, longest: int) -> str:
    """A text of a stranger as it may stand in a cell: printable, and at most so many characters long."""
    shown = printable(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"

"""What is not evaluated, with its position."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """1-based."""

    line: int
    column: int


class Refused(Exception):
    """The query is not modelled here, or is no ES|QL."""

    def __init__(self, position: Position, what: str) -> None:
        super().__init__(f"{position.line}:{position.column}: {what}")
        self.position = position


class VerificationFailed(Refused):
    """Elasticsearch answers with a verification exception: unknown names, types that do not fit."""

"""The one error of this interpreter."""

from __future__ import annotations


class UnsupportedSearch(Exception):
    """A search, or a case of it, that this interpreter does not answer.

    ``position`` counts characters from 0 in the search after its macros have been replaced; None where only
    the data show the case.
    """

    def __init__(self, what: str, position: int | None = None) -> None:
        super().__init__(what if position is None else f"{what}, at position {position}")
        self.what = what
        self.position = position

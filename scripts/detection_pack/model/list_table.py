"""A site's list as a table that its users maintain on a platform, and the places of a rule that ask it.

A filter of a list keeps its placeholders then (``UserId|expand: '%archive_services__1__account%'``): pySigma
carries them through the pipeline to the backend, which asks the table there. ``__`` stands between the name
of the list, the number of the filter in its file, and the parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sigma.types import Placeholder, SigmaString

from detection_pack.model.findings import PackError

#: The parameter whose values are IP addresses or networks.
ADDRESS = "address"
#: The column for whoever reads the list. No query reads it.
REASON = "reason"
_BETWEEN = "__"


@dataclass(frozen=True)
class ListTable:
    """One form of a list: the columns that a row fills, and the rows of the site's file.

    ``rows`` have a value for each column and the reason after them.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def shared_name(self) -> str:
        """What it is called where others have objects, too."""
        return f"remote_email_collection_{self.name}"

    @property
    def header(self) -> tuple[str, ...]:
        return (*self.columns, REASON)


@dataclass(frozen=True)
class Cell:
    """A place of a rule at which a column of a table is asked. ``use``: which filter asks."""

    use: str
    table: ListTable
    column: str

    @property
    def is_network(self) -> bool:
        return self.column == ADDRESS


class NotMaintained(PackError):
    """A filter of a list that a platform cannot ask a table for. ``use``: which filter."""

    def __init__(self, use: str, why: str) -> None:
        super().__init__(PackError.at(use, 1, why, "write its rows into the query").findings)
        self.use, self.why = use, why


def placeholder(list_name: str, number: int, parameter: str) -> str:
    """What stands in a rule for a column of a table."""
    return f"%{use_of(list_name, number)}{_BETWEEN}{parameter}%"


def use_of(list_name: str, number: int) -> str:
    return f"{list_name}{_BETWEEN}{number}"


def cell_of(value: object, tables: Mapping[str, ListTable]) -> Cell | None:
    """The cell that a value stands for; None for any other value. ``tables``: by use."""
    if not isinstance(value, SigmaString) or not tables:
        return None
    named = [part for part in value.s if isinstance(part, Placeholder)]
    if not named:
        return None
    use, _, column = named[0].name.rpartition(_BETWEEN)
    if len(value.s) != 1:
        raise NotMaintained(use, f"{column} is a part of what the field holds")
    return Cell(use, tables[use], column)


def check_whole(use: str, table: ListTable, columns: Iterable[str]) -> None:
    """Raises `NotMaintained` unless these are all the columns, once each: a row is one or it is none."""
    if sorted(columns) != sorted(table.columns):
        raise NotMaintained(use, "a value of it stands in several fields here")

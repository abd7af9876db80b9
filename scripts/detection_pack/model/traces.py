"""What an investigator reads of a log source's records: ``investigation:`` of source.yml.

Of every role the value that is shown of a record is that of the first of its fields that has one; an account
is looked for in each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

#: The roles in the order in which a timeline has them.
ROLES = ("account", "what", "mailbox", "client", "address", "target")


@dataclass(frozen=True)
class Named:
    """Records by a field: it has one of ``values`` (in any letter case; none for any value). With ``name``
    the field is a list of names and values, and it is the value of that name."""

    field: str
    values: tuple[str, ...] = ()
    name: str | None = None


@dataclass(frozen=True)
class Traces:
    """``roles``: from each of `ROLES` to fields. ``changes``: from what is changed (such as permissions) to
    the records that change it, any of them. ``mentions``: fields in which such a record may name the account.
    ``gaps``: from what is missing to the records that say so."""

    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    changes: Mapping[str, tuple[Named, ...]] = field(default_factory=dict)
    mentions: tuple[str, ...] = ()
    gaps: Mapping[str, tuple[Named, ...]] = field(default_factory=dict)

    def fields(self) -> Iterator[str]:
        """Every field that is read."""
        for names in self.roles.values():
            yield from names
        yield from self.mentions
        for listed in (*self.changes.values(), *self.gaps.values()):
            yield from (one.field for one in listed)

    def keys(self) -> frozenset[str]:
        """The top-level keys of a record that hold these fields: of a field with dots the whole name, which
        flat records have, and what stands before the first dot."""
        return frozenset(key for name in self.fields() for key in (name, name.partition(".")[0]))

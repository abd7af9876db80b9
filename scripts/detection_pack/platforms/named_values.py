"""The value of a name in a list of names and values, as a field: ``Parameters.Role``.

A pipeline maps the beginning of such fields (``field_name_prefix_mapping``); what follows it is the name, in
the letter case in which the records have it. Where a platform has no field for it, a state of the pipeline
says how it is taken out of the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.model.source_mapping import SourceMapping


def hidden_names(fields: Sequence[str], mapping: SourceMapping) -> Iterator[tuple[str, str]]:
    """``(field, what is wrong; what to do)`` of every named value whose name here is that of another field: a
    platform that lifts the values out of their list keeps the record's own."""
    taken = {name for names in mapping.names.values() for name in names}
    for field in dict.fromkeys(fields):
        if (name := mapping.named(field)) is not None and name in taken:
            yield field, f'it would be read from the record\'s own field "{name}" here; leave it out'


def entry_of(stated: Mapping[str, Any] | None, name: str) -> tuple[Any, str] | None:
    """What a state says of the beginning of ``name``, and the rest of it; None where it says nothing."""
    for start, entry in (stated or {}).items():
        if name.startswith(start) and name != start:
            return entry, name[len(start) :]
    return None

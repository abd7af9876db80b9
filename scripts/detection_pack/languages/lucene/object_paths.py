"""What is an object and what is a value in the documents of one index.

A field that is a value in one document cannot be an object in a later one, nor the other way round: the
document that comes second is refused (``DocumentParser``: "tried to parse field as object, but found a
concrete value"; "existing mapping must be of type object").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from detection_pack.languages.lucene.index_mapping import IndexMapping, prefixes


@dataclass(frozen=True)
class Leaf:
    """A path that a document holds; ``is_object`` where it is an object there, which may be empty."""

    path: str
    is_object: bool


class Paths:
    """The paths of one index, from its mapping and from its documents in order."""

    def __init__(self, mapping: IndexMapping) -> None:
        self._mapping = mapping
        flattened = {path for path, kind in mapping.fields.items() if kind.name == "flattened"}
        self._mapped_values = set(mapping.fields) - flattened
        self._mapped_objects = set(mapping.objects) | flattened
        self._values: set[str] = set()
        self._objects: set[str] = set()

    def note(self, leaf: Leaf) -> None:
        """Take in a path that some document holds."""
        values, objects = self._of(leaf)
        self._values |= values
        self._objects |= objects

    def disputed(self) -> set[str]:
        """The paths that are values in some place and objects in another."""
        values, objects = self._values | self._mapped_values, self._objects | self._mapped_objects
        return values & objects

    def refused(self, held: Sequence[tuple[int, Leaf]]) -> Iterator[tuple[int, str]]:
        """(document, reason) of those that contradict what was there before; ``held`` is in their order."""
        known_values, known_objects = set(self._mapped_values), set(self._mapped_objects)
        for number, group in groupby(held, key=lambda pair: pair[0]):
            values: set[str] = set()
            objects: set[str] = set()
            for _, leaf in group:
                own_values, own_objects = self._of(leaf)
                values |= own_values
                objects |= own_objects
            wrong = (values & (known_objects | objects)) | (objects & known_values)
            if wrong:
                yield number, f'"{min(wrong)}" is an object in one place and a value in another'
            else:
                known_values |= values
                known_objects |= objects

    def _of(self, leaf: Leaf) -> tuple[set[str], set[str]]:
        if self._mapping.below_flattened(leaf.path) is not None:
            return set(), set()
        objects = set(prefixes(leaf.path))
        return (set(), objects | {leaf.path}) if leaf.is_object else ({leaf.path}, objects)

"""What a pipeline says of one log source, read off its items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SourceMapping:
    """The canonical fields of a log source on one platform.

    ``names``: the platform's names of each field that is mapped. ``split``: the fields whose values are
    looked for in several of the platform's at once. ``absent``: why the platform has no such field (the
    pipeline's state ``absent_fields``). ``enumerations``: the values of each field whose values are mapped
    one by one.
    """

    names: Mapping[str, tuple[str, ...]]
    split: frozenset[str]
    absent: Mapping[str, str]
    enumerations: Mapping[str, frozenset[str]]

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(self.names)


def source_mapping(items: Sequence[Any]) -> SourceMapping:
    """From the pySigma processing items of a log source, in their order."""
    names: dict[str, tuple[str, ...]] = {}
    split: set[str] = set()
    absent: dict[str, str] = {}
    enumerations: dict[str, frozenset[str]] = {}
    for item in items:
        step = item.transformation
        match type(step).__name__:
            case "FieldMappingTransformation":
                for name, mapped in step.mapping.items():
                    listed = (mapped,) if isinstance(mapped, str) else tuple(mapped)
                    names[str(name)] = names.get(str(name), ()) + listed
                    split |= {str(name)} if len(listed) > 1 else set()
            case "HashesFieldsDetectionItemTransformation":
                split |= set(step.field_to_parse)
            case "SetStateTransformation" if step.key == "absent_fields":
                absent |= {str(name): str(reason) for name, reason in step.val.items()}
            case "MapStringTransformation":
                conditions = item.field_name_conditions
                stated = conditions.values() if isinstance(conditions, dict) else conditions
                values = frozenset(map(str, step.mapping))
                for name in (name for condition in stated for name in getattr(condition, "fields", ())):
                    enumerations[name] = enumerations.get(name, frozenset()) | values
    return SourceMapping(names, frozenset(split), absent, enumerations)

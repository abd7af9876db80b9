"""How an export of a log source looks, and how its entries become records: data of source.yml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What a condition says of a key besides its values.
PRESENT, ABSENT = "present", "absent"
#: How several columns make one field: {name: (columns) -> text}.
COMBINED = ("path", "account", "constant")


@dataclass(frozen=True)
class ExportForm:
    """One form of an export.

    ``csv``: columns that tell a CSV file of this form. ``inside``: the column or key that holds the record.
    ``below`` and ``names``: keys below which further fields stand, and other names of fields there.
    ``recognise``: alternatives, each from a key to the values that it may have, "present" and "absent" among
    them. ``fields``: from each field of the record to where it comes from. ``keep``: whether the entry's
    other fields are the record's, too; without ``fields`` the entry is the record. ``identity``: keys that
    identify an entry together where the record does not identify itself.
    """

    title: str
    recognise: Sequence[Mapping[str, Sequence[str]]]
    csv: Sequence[str] = ()
    inside: str | None = None
    below: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False
    identity: Sequence[str] = ()

    def entry(self, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The part of an export's entry that this form reads; None for an entry of another form."""
        if self.inside is not None and isinstance(data.get(self.inside), Mapping):
            data = data[self.inside]
        flat = self._flattened(data) if self.below else data
        return flat if any(_fulfils(flat, one) for one in self.recognise) else None

    def record(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The record that an entry holds."""
        if not self.fields:
            return dict(entry)
        made = {k: v for k, v in entry.items() if v is not None} if self.keep else {}
        for name, origin in self.fields.items():
            value = _value(entry, origin)
            if value not in (None, ""):
                made[name] = value
        return made

    def _flattened(self, data: Mapping[str, Any]) -> dict[str, Any]:
        flat = {k: v for k, v in data.items() if not isinstance(v, Mapping)}
        for key in self.below:
            inner = data.get(key)
            if isinstance(inner, Mapping):
                for name, value in self._flattened(inner).items():
                    flat.setdefault(self.names.get(name, name), value)
        return flat


def _fulfils(entry: Mapping[str, Any], wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(
        (key in entry and (PRESENT in values or str(entry[key]) in values))
        or (key not in entry and ABSENT in values)
        for key, values in wanted.items()
    )


def _value(entry: Mapping[str, Any], origin: Any) -> Any:
    """What a field holds: of several names the first that is there, or parts put together."""
    if isinstance(origin, Mapping):
        [(how, parts)] = origin.items()
        if how == "constant":
            return parts
        first, second = (str(entry.get(part) or "") for part in parts)
        return _path(first, second) if how == "path" else _account(first, second)
    if isinstance(origin, str):
        return entry.get(origin)
    plain = (entry.get(name) for name in origin)
    return next((v for v in plain if v not in (None, "") and not isinstance(v, Mapping | list)), None)


def _path(folder: str, name: str) -> str:
    """A folder and a file name; some tables have the name in the folder's column already."""
    if not folder or folder.lower().endswith(name.lower()):
        return folder or name
    return folder.rstrip("\\") + "\\" + name


def _account(domain: str, name: str) -> str:
    return f"{domain}\\{name}" if domain and name else name


def csv_columns(forms: Sequence[ExportForm]) -> Iterator[str]:
    """The columns that tell a CSV file of any of the forms."""
    for form in forms:
        yield from form.csv

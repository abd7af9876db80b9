"""How an export of a log source looks, and how its entries become records: data of source.yml.

This is the meaning of a form, an entry at a time; `replay.form_sql` says the clean part of it in SQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detection_pack.model import event_data
from detection_pack.model.export_members import is_members, member_columns, members, within
from detection_pack.model.record_time import value_at

#: What a condition says of a key besides its values.
PRESENT, ABSENT = "present", "absent"
#: How several columns make one field, or a part of one column does: `xml` is a column and a name in its XML,
#: `within` a column, a path in its object, and what stands before it; `members` a list of objects.
PATH, ACCOUNT, PAIRS, OBJECT, CONSTANT, XML = "path", "account", "pairs", "object", "constant", "xml"
WITHIN, MEMBERS = "within", "members"
COMBINED = (PATH, ACCOUNT, PAIRS, OBJECT, CONSTANT, XML, WITHIN, MEMBERS)


@dataclass(frozen=True, eq=False)
class ExportForm:
    """One form of an export. Two are the same only if they are one object.

    ``inside``: columns or keys of which one holds the record, as an object or as its text; ``outside``: from
    a field to the keys around it that say what the record does not. ``below`` and ``names``: paths (with
    slashes) of objects whose keys are read as the entry's own, the entry's first; and other names of fields
    (with dots where they are nested) there. ``recognise``: alternatives, each from a key to the values that
    it may have, "present" and "absent" among them. ``fields``: from each field of the record to where it
    comes from. ``keep``: whether the entry's other fields are the record's, too; without ``fields`` the entry
    is the record. ``identity``: keys that identify an entry together where the record does not identify
    itself. ``times``: patterns of `datetime.strptime` in which this form writes times besides the source's
    own, in UTC. ``partial``: fields that it does not give back exactly. ``each``: a key that holds a list;
    each of its members makes an entry of its own, with the rest beside it.
    """

    title: str
    recognise: Sequence[Mapping[str, Sequence[str]]]
    inside: Sequence[str] = ()
    outside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    below: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False
    identity: Sequence[str] = ()
    times: Sequence[str] = ()
    partial: Sequence[str] = ()
    each: str | None = None

    def entry(self, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The part of an export's entry that this form reads; None for an entry of another form."""
        flat = self._flattened(data) if self.below or self.names else data
        return flat if any(_fulfils(flat, one) for one in self.recognise) else None

    def record(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The record that an entry holds."""
        if not self.fields:
            return {k: v for k, v in entry.items() if v is not None}
        made = {k: v for k, v in entry.items() if v not in (None, "")} if self.keep else {}
        for name, origin in self.fields.items():
            value = _value(entry, origin)
            if value not in (None, ""):
                made[name] = value
        return made

    def columns(self) -> Iterator[str]:
        """Every key of an entry that the form reads by name."""
        yield from self.inside
        for condition in self.recognise:
            yield from condition
        for origin in self.fields.values():
            yield from origin_columns(origin)
        yield from self.identity

    def _flattened(self, data: Mapping[str, Any]) -> dict[str, Any]:
        flat = {k: v for k, v in data.items() if not isinstance(v, Mapping)} if self.below else dict(data)
        for place in (data, *self._places(data)):
            for other, name in self.names.items():
                if flat.get(name) is None and (value := value_at(place, other)) is not None:
                    flat[name] = value
            if place is not data:
                for name, value in place.items():
                    if not isinstance(value, Mapping):
                        flat.setdefault(name, value)
        return flat

    def _places(self, data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        for path in self.below:
            place: Any = data
            for part in path.split("/"):
                place = place.get(part) if isinstance(place, Mapping) else None
            if isinstance(place, Mapping):
                yield place
            if values := dict(event_data.of_json(place)):
                yield values


def _fulfils(entry: Mapping[str, Any], wanted: Mapping[str, Sequence[str]]) -> bool:
    """Without regard to letter case; a key that is empty is absent."""
    return all(
        (ABSENT in values)
        if (held := value_at(entry, key)) in (None, "")
        else (PRESENT in values or not _said(held).isdisjoint(value.lower() for value in values))
        for key, values in wanted.items()
    )


def _said(held: object) -> set[str]:
    """What a value says: of a list each of its values."""
    return {str(one).lower() for one in (held if isinstance(held, list) else [held])}


def origin_columns(origin: Any) -> Sequence[str]:
    """The columns that a field comes from."""
    if isinstance(origin, Mapping):
        [(how, parts)] = origin.items()
        if how == OBJECT:
            return [parts]
        if how in (XML, WITHIN):
            return [parts[0]]
        if how == MEMBERS:
            return member_columns(parts)
        return () if how == CONSTANT else list(parts)
    if isinstance(origin, str):
        return [origin]
    return [column for one in origin for column in origin_columns(one)]


def is_origin(origin: Any) -> bool:
    """Whether this says where a field comes from: a name, a combination, or a list of these."""
    if isinstance(origin, str):
        return bool(origin)
    if isinstance(origin, list):
        return bool(origin) and all(is_origin(one) and not isinstance(one, list) for one in origin)
    if not isinstance(origin, Mapping) or len(origin) != 1:
        return False
    [(how, parts)] = origin.items()
    if how == CONSTANT:
        return True
    if how == OBJECT:
        return isinstance(parts, str)
    if how == MEMBERS:
        return is_members(parts)
    texts = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
    return how in COMBINED and texts and len(parts) in ((2, 3) if how == WITHIN else (2,))


def _value(entry: Mapping[str, Any], origin: Any) -> Any:
    """What a field holds: of several names the first that is there, or parts put together."""
    if isinstance(origin, Mapping):
        [(how, parts)] = origin.items()
        if how == CONSTANT:
            return parts
        if how == OBJECT:
            return _listed_object(entry, parts)
        if how == WITHIN:
            return within(entry, *parts)
        if how == MEMBERS:
            return members(entry, parts)
        if how == XML:
            column, name = parts
            return event_data.of_xml(str(value_at(entry, column) or "")).get(name)
        first, second = (value_at(entry, part) for part in parts)
        if how == PAIRS:
            return _pairs(first, second)
        text, more = str(first or ""), str(second or "")
        return _path(text, more) if how == PATH else _account(text, more)
    if isinstance(origin, str):
        return value_at(entry, origin)
    plain = (_value(entry, one) for one in origin)
    return next((v for v in plain if v not in (None, "") and not isinstance(v, Mapping | list)), None)


def _path(folder: str, name: str) -> str:
    """A folder and a file name; some tables have the name in the folder's column already."""
    if not folder or folder.lower().endswith(name.lower()):
        return folder or name
    return folder.rstrip("\\") + "\\" + name


def _account(domain: str, name: str) -> str:
    return f"{domain}\\{name}" if domain and name else name


def _pairs(names: Any, values: Any) -> list[dict[str, str]] | None:
    """Two parallel lists, or two texts of as many lines, as a list of names and values; None where they do
    not belong together."""
    listed = [one.split("\n") if isinstance(one, str) else one for one in (names, values)]
    if not all(isinstance(one, list) for one in listed) or len(listed[0]) != len(listed[1]):
        return None
    return [{"Name": str(name), "Value": str(value)} for name, value in zip(*listed, strict=True)]


def _listed_object(entry: Mapping[str, Any], name: str) -> list[dict[str, Any]] | str | None:
    """An object, nested or as columns with a common beginning, as a list of names and values."""
    held = value_at(entry, name)
    if isinstance(held, Mapping):
        found = dict(held)
    elif held is not None:
        return str(held)
    else:
        start = f"{name}."
        found = {k[len(start) :]: v for k, v in entry.items() if k.startswith(start) and v not in (None, "")}
    if set(found) == {"_raw"}:
        return str(found["_raw"])
    return [{"Name": k, "Value": v if isinstance(v, str) else str(v)} for k, v in found.items()] or None

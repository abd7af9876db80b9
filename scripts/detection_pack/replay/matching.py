"""Which log source an entry of an export belongs to, and the record that it holds.

The meaning of all forms, an entry at a time. `form_sql` says the clean part of it in SQL, and whatever is not
clean comes here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from detection_pack.model.event import Event, plain_record
from detection_pack.model.export_form import ExportForm
from detection_pack.model.log_source import LogSource
from detection_pack.model.record_time import ISO8601, value_at
from detection_pack.replay.event_xml import event

#: Keys under which a platform's export has the document itself: Elasticsearch, Splunk, an event hub of Azure.
DOCUMENTS = ("_source", "result", "properties")
#: Where Splunk keeps the text of the event.
RAW = "_raw"


class Unreadable(Exception):
    """An entry that is of a log source and still cannot be read: what is wrong, and what to do."""

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(what)
        self.what, self.todo = what, todo


@dataclass(frozen=True)
class Match:
    """A record, as its source writes it, with the form that it came in. ``id`` is None where nothing
    identifies it."""

    source: LogSource
    form: ExportForm
    record: Mapping[str, Any]
    time: datetime
    id: str | None

    @property
    def kind(self) -> str:
        held = None if self.source.kind is None else value_at(self.record, self.source.kind)
        return self.form.title if held is None else str(held)

    def as_event(self) -> Event:
        return Event(self.id or "", self.source, self.record)


@dataclass(frozen=True)
class Other:
    """An entry of a kind that no source reads, and what it is."""

    what: str


class Matcher:
    """All forms of some log sources."""

    def __init__(self, sources: Iterable[LogSource]) -> None:
        # Forms that look below an entry's objects come last: only what is tried before a form costs it time.
        self.sources = tuple(sorted(sources, key=lambda s: any(f.below or f.names for f in s.exports)))
        self._forms = [(source, form) for source in self.sources for form in source.exports]
        self._dividing = [(form.each, form) for _, form in self._forms if form.each]
        self._others = tuple(dict.fromkeys(key for source in self.sources for key in source.others))

    @property
    def columns(self) -> frozenset[str]:
        """Every column by which an entry of a table could be recognised."""
        return frozenset([RAW, *(key for _, form in self._forms for key in form.columns())])

    @property
    def titles(self) -> list[str]:
        """What an export may hold; the forms of all of it are more than a line can name."""
        return sorted(source.title for source in self.sources)

    def before(self, form: ExportForm) -> Iterator[ExportForm]:
        """The forms that are tried before this one."""
        for _, other in self._forms:
            if other is form:
                return
            yield other

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether an entry is of one of the forms, readable or not."""
        try:
            return isinstance(self.match(data), Match)
        except Unreadable:
            return True

    def parts(self, data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """An entry, or the entries that it holds in the list of a form's ``each``."""
        for key, form in self._dividing:
            held = data.get(key)
            if isinstance(held, list) and held and all(isinstance(one, Mapping) for one in held):
                made = [{**data, key: one} for one in held]
                if form.entry(made[0]) is not None:
                    return made
        return [data]

    def match(self, data: Mapping[str, Any]) -> Match | Other:
        """The record of an entry, by the first form that knows it. Raises `Unreadable`."""
        broken: str | None = None
        for candidate in documents(data):
            for source, form in self._forms:
                inner, stated = _inner(candidate, form)
                if inner is None:
                    broken = broken or stated
                elif (entry := form.entry(inner)) is not None:
                    return _made(source, form, entry)
        if broken is not None:
            raise Unreadable(f"{broken} is not a record in JSON", "export it again, untouched")
        return Other(self._what(data))

    def _what(self, data: Mapping[str, Any]) -> str:
        for candidate in documents(data):
            for key in self._others:
                held = value_at(candidate, key)
                if isinstance(held, Mapping):
                    held = next(iter(held.values()), None)
                if isinstance(held, str | int) and held != "":
                    return f"{key} {held}"[:120]
        return "unknown"


def documents(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entry without the wrapping of the platform that exported it, its original text first."""
    for _ in range(3):
        for key in DOCUMENTS:
            if isinstance(held := data.get(key), Mapping):
                # What says which table it is stands outside.
                data = {**{k: v for k, v in data.items() if k not in (*DOCUMENTS, *held)}, **held}
                break
        else:
            break
    raw = data.get(RAW)
    if isinstance(raw, str):
        parsed = event(raw) if raw.lstrip().startswith("<Event") else as_object(raw)
        if parsed:
            yield parsed
    yield data


def as_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None for any other text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _inner(data: Mapping[str, Any], form: ExportForm) -> tuple[Mapping[str, Any] | None, str | None]:
    """What a form reads of an entry; None, and which column is broken, where the record inside is none."""
    broken = None
    for name in form.inside:
        held = data.get(name) if name in data else value_at(data, name)
        found = as_object(held) if isinstance(held, str) else held
        if isinstance(found, Mapping):
            return _with_outside(found, data, form), None
        if name in data and (held is not None or broken is None):
            broken = name
    return (None, broken) if broken is not None else (data, None)


def _with_outside(
    record: Mapping[str, Any], around: Mapping[str, Any], form: ExportForm
) -> Mapping[str, Any]:
    missing = {}
    for name, keys in form.outside.items():
        if record.get(name) in (None, ""):
            value = next((v for key in keys if (v := around.get(key)) not in (None, "")), None)
            if value is not None:
                missing[name] = value
    return {**record, **missing} if missing else record


def _made(source: LogSource, form: ExportForm, entry: Mapping[str, Any]) -> Match:
    made = form.record(entry)
    if form.fields:
        made = _typed(made, source)
    if form.times:
        made = _with_time(made, source, form)
    try:
        record = source.as_written(plain_record(made))
    except ValueError as error:
        raise Unreadable(f"is {error}", "export the record again") from error
    moment = source.time.of(record)
    if moment is None:
        wanted = "ISO 8601" if source.time.format == ISO8601 else source.time.format
        what = f"has no time that can be read ({source.time.field} of the record)"
        raise Unreadable(what, f"export the time as {wanted}")
    parts = [value_at(entry, key) for key in form.identity]
    # What identifies an entry does so together: one that lacks a part stands for itself.
    stated = "" if any(part in (None, "") for part in parts) else "/".join(map(str, parts))
    name = source.identity_of(record) or source.identity_of(entry) or stated
    # JSON can spell half of a surrogate pair.
    name = name.encode("utf-8", "replace").decode()
    return Match(source, form, record, moment.astimezone(UTC), name or None)


def _typed(record: dict[str, Any], source: LogSource) -> dict[str, Any]:
    """What a table writes as text, in the type that the source writes."""
    for name, value in record.items():
        about = source.fields.get(name)
        if not isinstance(value, str) or about is None:
            continue
        if about.type == "boolean" and value.lower() in ("true", "false"):
            record[name] = value.lower() == "true"
        elif about.type in ("list", "object") and value.lstrip().startswith(("[", "{")):
            try:
                record[name] = json.loads(value)
            except (ValueError, RecursionError):
                continue
    return record


def _with_time(record: dict[str, Any], source: LogSource, form: ExportForm) -> dict[str, Any]:
    """A time in one of the form's own patterns as the source writes it."""
    held = record.get(source.time.field)
    if isinstance(held, str) and source.time.read(held) is None:
        for pattern in form.times:
            try:
                moment = datetime.strptime(held.strip(), pattern).replace(tzinfo=UTC)
            except ValueError:
                continue
            record[source.time.field] = source.time.written(moment)
            break
    return record

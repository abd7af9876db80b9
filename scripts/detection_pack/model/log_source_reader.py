"""Reading source.yml: every fault of it is a finding with its line.

The registry is the folders: whatever has a source.yml is a source. Nothing here knows one by name.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from detection_pack.model.documents import Document, Key, load_documents, read_text
from detection_pack.model.export_form import COMBINED, ExportForm, is_origin
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import (
    FILE,
    FOLDER,
    AlertDefaults,
    KnownValues,
    LogSource,
    NeverHeld,
    Simulation,
    SourceField,
)
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.record_time import RecordTime, format_fault
from detection_pack.model.rule import AlertView
from detection_pack.model.traces import ROLES, Named, Traces

#: The id of the findings that this module makes.
CHECK = "log-source"
_NAME = re.compile(r"[a-z][a-z0-9_]{1,63}")
_PLAIN_FILE = re.compile(r"[A-Za-z0-9_]+\.csv")
_KEYS = (
    *("title", "logsources", "absent", "records", "fields", "enumerations", "exports", "alert", "checks"),
    *("new", "simulation", "investigation"),
)
_TYPES = ("string", "integer", "number", "boolean", "datetime", "ip", "list", "object")
_EXPORT_KEYS = (
    *("title", "inside", "outside", "each", "flatten", "recognise", "identity", "fields", "keep", "times"),
    "partial",
)
_FIELD_KEYS = ("type", "enumeration", "meaning")
#: What a simulated record's new identifiers may be.
ID_KINDS = ("uuid", "number")


def load_log_sources(
    root: Path, folder: Path | None = None, findings: list[Finding] | None = None
) -> dict[str, LogSource]:
    """The log sources by name: the folders below ``folder`` (default: pipelines/ of ``root``).

    Raises `PackError` with every fault of all of them; with ``findings`` they are reported there, and a
    faulty source is left out.
    """
    sources: dict[str, LogSource] = {}
    found: list[Finding] = []
    for path in source_files(root, folder):
        try:
            sources[path.parent.name] = load_log_source(path)
        except PackError as error:
            found += error.findings
    found += rivals(sources.values())
    if found and findings is None:
        raise PackError(found)
    if findings is not None:
        findings += found
    return sources


def source_files(root: Path, folder: Path | None = None) -> list[Path]:
    """Every source.yml of ``folder`` (default: pipelines/ of ``root``), by the names of their folders."""
    return sorted((folder or root / FOLDER).glob(f"*/{FILE}"))


def load_log_source(path: Path) -> LogSource:
    """The log source of a source.yml. Raises `PackError` with every fault."""
    return _load(path, read_text(path), tuple(_tables_beside(path)))


def _tables_beside(path: Path) -> Iterator[tuple[str, int]]:
    """What else decides what a source is: its tables, by name and time of change."""
    for other in sorted(path.parent.glob("*.*")):
        if other.suffix in (".csv", ".yml") and other.is_file():
            yield other.name, other.stat().st_mtime_ns


# None is forgotten: two sources are the same only if they are one object.
@cache
def _load(path: Path, text: str, _beside: tuple[tuple[str, int], ...]) -> LogSource:
    documents = load_documents(path, text)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise PackError.at(path, 1, "is not one log source", "write one YAML mapping", CHECK)
    reader = _Reader(documents[0])
    source = reader.source()
    if reader.faults or source is None:
        raise PackError(reader.faults)
    return source


def rivals(sources: Iterable[LogSource]) -> list[Finding]:
    """Sources that state the same Sigma log source: a rule of it would belong to either."""
    seen: dict[frozenset[tuple[str, str]], str] = {}
    found = []
    for source in sources:
        for pairs in source.logsources:
            other = seen.setdefault(frozenset(pairs.items()), source.name)
            if other != source.name:
                path = source.folder / FILE
                line = load_documents(path)[0].line("logsources")
                what = f"serves a Sigma log source that {other} serves, too"
                found.append(Finding(str(path), line, what, "give each its own pairs", CHECK))
    return found


class _Reader:
    """One reading of a document: what is faulty is reported and left out, and reading goes on."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.path = document.path
        self.faults: list[Finding] = []

    def source(self) -> LogSource | None:
        data = self.document.data
        name = self.path.parent.name
        if not _NAME.fullmatch(name):
            self.fault((), f'the folder "{name}" cannot name a log source', "use a-z, 0-9 and _")
        self.only((), data, _KEYS)
        title = self.text(("title",), data.get("title"))
        logsources = tuple(self.logsources(data.get("logsources")))
        identity, time = self.records(data.get("records"))
        stated = self.mapping(("records",), data.get("records"))
        kind = stated.get("kind")
        enumerations = dict(self.enumerations(self.mapping(("enumerations",), data.get("enumerations"))))
        fields = dict(self.fields(self.mapping(("fields",), data.get("fields")), enumerations))
        exports = tuple(self.exports(data.get("exports")))
        checks = self.mapping(("checks",), data.get("checks"))
        self.only(("checks",), checks, ("known_values", "never_held"))
        known, never = (
            self.known_values(checks.get("known_values")),
            self.never_held(checks.get("never_held")),
        )
        alert = self.alert(self.mapping(("alert",), data.get("alert")))
        new = self.new(self.mapping(("new",), data.get("new")))
        absent = dict(self.absent(self.mapping(("absent",), data.get("absent"))))
        simulation = self.simulation(data.get("simulation"))
        traces = self.traces(self.mapping(("investigation",), data.get("investigation")))
        if self.faults or time is None:
            return None
        return LogSource(
            name=name,
            folder=self.path.parent,
            title=title,
            logsources=logsources,
            identity=identity,
            time=time,
            kind=self.text(("records", "kind"), kind) if kind is not None else None,
            others=self.texts(("records", "others"), stated.get("others")),
            fields=fields,
            enumerations=enumerations,
            exports=exports,
            alert=alert,
            known_values=known,
            never_held=never,
            new=new,
            absent=absent,
            simulation=simulation,
            traces=traces,
        )

    # ---- parts --------------------------------------------------------------------------------------

    def logsources(self, stated: Any) -> Iterator[Mapping[str, str]]:
        if not isinstance(stated, list) or not stated:
            self.fault(("logsources",), "states no Sigma log source", "write a list such as [{product: x}]")
            return
        for index, pairs in enumerate(stated):
            at = ("logsources", index)
            self.only(at, self.mapping(at, pairs), ("product", "category", "service"))
            if isinstance(pairs, dict) and pairs and all(isinstance(v, str) for v in pairs.values()):
                yield pairs
            else:
                self.fault(at, "is not a Sigma log source", "write product, category or service with a text")

    def absent(self, stated: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name, why in stated.items():
            at = ("absent", name)
            if name not in PLATFORMS:
                self.fault(at, f'"{name}" is not a platform', f"use {', '.join(PLATFORMS)}")
            elif (self.path.parent / f"{name}.yml").exists():
                what = f"says that {name} has no such records, and {name}.yml stands beside it"
                self.fault(at, what, "remove one of them")
            else:
                yield name, self.text(at, why)

    def records(self, stated: Any) -> tuple[tuple[str, ...], RecordTime | None]:
        records = self.mapping(("records",), stated)
        self.only(("records",), records, ("identity", "time", "kind", "others"))
        identity = self.texts(("records", "identity"), records.get("identity"))
        if not identity:
            self.fault(("records", "identity"), "names no field", "name what identifies a record")
        time = self.mapping(("records", "time"), records.get("time"))
        self.only(("records", "time"), time, ("field", "format"))
        name = self.text(("records", "time", "field"), time.get("field"))
        if (fault := format_fault(time.get("format"))) is not None:
            todo = 'write iso8601, epoch_s, epoch_ms or a pattern such as "%d.%m.%Y %H:%M:%S"'
            self.fault(("records", "time", "format"), fault, todo)
            return identity, None
        return identity, RecordTime(name, time["format"])

    def fields(
        self, stated: Mapping[str, Any], enumerations: Mapping[str, Any]
    ) -> Iterator[tuple[str, SourceField]]:
        for name, about in stated.items():
            at = ("fields", name)
            entry = self.mapping(at, about)
            self.only(at, entry, _FIELD_KEYS)
            kind, enumeration = entry.get("type", "string"), entry.get("enumeration")
            if kind not in _TYPES:
                self.fault((*at, "type"), f'"{kind}" is not a type', f"use {', '.join(_TYPES)}")
            if enumeration is not None and enumeration not in enumerations:
                near = difflib.get_close_matches(str(enumeration), list(enumerations), n=1)
                todo = f'did you mean "{near[0]}"?' if near else "state it under enumerations"
                self.fault((*at, "enumeration"), f'"{enumeration}" is not an enumeration', todo)
            yield str(name), SourceField(str(name), kind, enumeration, str(entry.get("meaning") or ""))

    def enumerations(self, stated: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[int, str]]]:
        for name, values in stated.items():
            at = ("enumerations", name)
            if isinstance(values, str):
                pairs = dict(self.table_of_values(at, values))
            else:
                pairs = self.mapping(at, values)
            seen: dict[str, Any] = {}
            for number, text in pairs.items():
                if type(number) is not int or number < 0 or not isinstance(text, str) or not text:
                    self.fault((*at, number), "is not a number with its name", "write 1: Name")
                elif (other := seen.setdefault(text.lower(), number)) != number:
                    self.fault((*at, number), f'has the name of {other}, "{text}"', "name each value once")
            yield str(name), pairs

    def table_of_values(self, at: tuple[Key, ...], name: str) -> Iterator[tuple[int, str]]:
        """An enumeration in a CSV file beside source.yml, with the columns value and name."""
        text = self.beside(at, name)
        for row in csv.DictReader(io.StringIO(text or "", newline="")):
            value = str(row.get("value"))
            if not value.isascii() or not value.isdigit() or not row.get("name"):
                self.fault(at, f"{name} has a row that is not a number with its name", "write value,name")
                return
            yield int(value), str(row["name"])

    def exports(self, stated: Any) -> Iterator[ExportForm]:
        for index, about in enumerate(self.listed(("exports",), stated)):
            at = ("exports", index)
            entry = self.mapping(at, about)
            self.only(at, entry, _EXPORT_KEYS)
            flatten = self.mapping((*at, "flatten"), entry.get("flatten"))
            self.only((*at, "flatten"), flatten, ("below", "names"))
            fields = self.mapping((*at, "fields"), entry.get("fields"))
            for name, origin in fields.items():
                if not is_origin(origin):
                    todo = f"write a name, a list of names, or one of {', '.join(COMBINED)}"
                    self.fault((*at, "fields", name), "does not say where the field comes from", todo)
            yield ExportForm(
                title=self.text((*at, "title"), entry.get("title")),
                recognise=tuple(self.conditions((*at, "recognise"), entry.get("recognise"))),
                inside=self.texts((*at, "inside"), entry.get("inside")),
                outside=dict(self.outside((*at, "outside"), entry.get("outside"))),
                below=self.texts((*at, "flatten", "below"), flatten.get("below")),
                names={str(k): str(v) for k, v in self.mapping(at, flatten.get("names")).items()},
                fields=fields,
                keep=entry.get("keep") is True,
                identity=self.texts((*at, "identity"), entry.get("identity")),
                times=tuple(self.times((*at, "times"), entry.get("times"))),
                partial=self.texts((*at, "partial"), entry.get("partial")),
                each=self.text((*at, "each"), entry["each"]) if "each" in entry else None,
            )

    def outside(self, at: tuple[Key, ...], stated: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
        for name, keys in self.mapping(at, stated).items():
            yield str(name), self.texts((*at, name), keys)

    def times(self, at: tuple[Key, ...], stated: Any) -> Iterator[str]:
        for index, pattern in enumerate(self.texts(at, stated)):
            if "%" not in pattern or (fault := format_fault(pattern)) is not None:
                what = fault if "%" in pattern else "is not a pattern"
                self.fault((*at, index), str(what), 'write a pattern such as "%m/%d/%Y %I:%M:%S %p"')
            yield pattern

    def conditions(self, at: tuple[Key, ...], stated: Any) -> Iterator[Mapping[str, tuple[str, ...]]]:
        if not self.listed(at, stated):
            self.fault(at, "recognises nothing", "write a list such as [{Operation: present}]")
        for index, wanted in enumerate(self.listed(at, stated)):
            made = {}
            for key, values in self.mapping((*at, index), wanted).items():
                made[str(key)] = self.texts(
                    (*at, index, key), values if isinstance(values, list) else [values]
                )
            if not made:
                self.fault((*at, index), "is not a condition", "write key: present, absent or a value")
            yield made

    def known_values(self, stated: Any) -> KnownValues | None:
        if stated is None:
            return None
        at = ("checks", "known_values")
        entry = self.mapping(at, stated)
        keys = ("field", "by", "table", "growing", "reference")
        self.only(at, entry, keys)
        texts = {key: self.text((*at, key), entry.get(key)) for key in keys}
        try:
            re.compile(texts["growing"])
        except re.error as error:
            self.fault((*at, "growing"), f"is not an expression ({error})", "write a regular expression")
        header = (self.beside((*at, "table"), texts["table"]) or "value,types,").partition("\n")[0]
        if not header.startswith("value,types,"):
            self.fault(
                (*at, "table"), "has not the columns value, types and note", "write them as its header"
            )
        return KnownValues(**texts)

    def never_held(self, stated: Any) -> NeverHeld | None:
        if stated is None:
            return None
        at = ("checks", "never_held")
        entry = self.mapping(at, stated)
        self.only(at, entry, ("by", "fields"))
        found = {}
        for value, fields in self.mapping((*at, "fields"), entry.get("fields")).items():
            listed = self.mapping((*at, "fields", value), fields)
            found[str(value)] = {str(name): str(why) for name, why in listed.items()}
        return NeverHeld(self.text((*at, "by"), entry.get("by")), found)

    def alert(self, stated: Mapping[str, Any]) -> AlertDefaults:
        keys = tuple(AlertView.FIELDS.values())
        self.only(("alert",), stated, keys)
        return AlertDefaults(**{k: self.text(("alert", k), stated[k]) for k in keys if k in stated})

    def new(self, stated: dict[str, Any]) -> Mapping[str, Any]:
        mappings, lists = ("logsource", "rule", "carriers", "never", "others"), ("surroundings", "elsewhere")
        self.only(("new",), stated, (*mappings, *lists, "common", "records"))
        for key in mappings:
            self.mapping(("new", key), stated.get(key))
        for key in (*lists, "records"):
            for index, one in enumerate(self.listed(("new", key), stated.get(key))):
                self.mapping(("new", key, index), one)
        self.texts(("new", "common"), stated.get("common"))
        for key in ("logsource", "rule") if stated else ():
            if not stated.get(key):
                self.fault(("new",), f'has no "{key}"', "say what a new rule starts as")
        return stated

    def simulation(self, stated: Any) -> Simulation | None:
        if stated is None:
            return None
        entry = self.mapping(("simulation",), stated)
        self.only(("simulation",), entry, ("mark", "ids"))
        ids = self.mapping(("simulation", "ids"), entry.get("ids"))
        for name, kind in ids.items():
            if kind not in ID_KINDS:
                at, todo = ("simulation", "ids", name), f"use {' or '.join(ID_KINDS)}"
                self.fault(at, f'"{kind}" is not a kind of identifier', todo)
        mark = self.text(("simulation", "mark"), entry.get("mark"))
        return Simulation(mark, {str(name): str(kind) for name, kind in ids.items()})

    def traces(self, stated: Mapping[str, Any]) -> Traces:
        at = ("investigation",)
        self.only(at, stated, (*ROLES, "mentions", "changes", "gaps"))
        if stated and not stated.get(ROLES[0]):
            self.fault(at, f'names no "{ROLES[0]}"', "name the fields that say who did it")
        roles = {role: self.texts((*at, role), stated[role]) for role in ROLES if role in stated}
        named = {}
        for part in ("changes", "gaps"):
            found = named[part] = dict[str, tuple[Named, ...]]()
            for key, listed in self.mapping((*at, part), stated.get(part)).items():
                found[str(key)] = tuple(self.named((*at, part, key), listed))
        return Traces(
            roles, named["changes"], self.texts((*at, "mentions"), stated.get("mentions")), named["gaps"]
        )

    def named(self, at: tuple[Key, ...], stated: Any) -> Iterator[Named]:
        for index, about in enumerate(self.listed(at, stated)):
            entry = self.mapping((*at, index), about)
            self.only((*at, index), entry, ("field", "values", "name"))
            name = self.text((*at, index, "name"), entry["name"]) if "name" in entry else None
            values = self.texts((*at, index, "values"), entry.get("values"))
            yield Named(self.text((*at, index, "field"), entry.get("field")), values, name)

    # ---- shapes -------------------------------------------------------------------------------------

    def fault(self, at: tuple[Key, ...], what: str, todo: str) -> None:
        self.faults.append(Finding(str(self.path), self.document.line(*at), what, todo, CHECK))

    def only(self, at: tuple[Key, ...], entry: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in entry:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                todo = f'did you mean "{near[0]}"?' if near else f"use {', '.join(known)}"
                self.fault((*at, key), f'"{key}" is unknown here', todo)

    def mapping(self, at: tuple[Key, ...], value: Any) -> dict[Any, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self.fault(at, f'"{at[-1]}" is not a mapping', "write key: value")
        return {}

    def listed(self, at: tuple[Key, ...], value: Any) -> list[Any]:
        if value is None or isinstance(value, list):
            return value or []
        self.fault(at, f'"{at[-1]}" is not a list', "write a list")
        return []

    def text(self, at: tuple[Key, ...], value: Any) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.fault(at, f'"{at[-1]}" is not a text', "write one")
        return ""

    def texts(self, at: tuple[Key, ...], value: Any) -> tuple[str, ...]:
        listed = self.listed(at, value)
        if all(isinstance(one, str) and one for one in listed):
            return tuple(listed)
        self.fault(at, f'"{at[-1]}" holds what is not a text', "write texts, numbers in quotes")
        return ()

    def beside(self, at: tuple[Key, ...], name: str) -> str | None:
        """The text of a table in the source's own folder: no path leads out of it."""
        if not _PLAIN_FILE.fullmatch(name):
            self.fault(at, f'"{name}" is not the name of a table', "name a CSV file beside source.yml")
            return None
        try:
            return read_text(self.path.parent / name)
        except PackError as error:
            self.fault(at, f"{name} {error.findings[0].what}", error.findings[0].todo)
            return None

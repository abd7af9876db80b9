"""tests/atomics/<technique>/records.yml: what each atomic test makes in the logs, and the rules that fire.

A set is the smallest number of records on which its rules fire; a test may make several. Its records are raw,
as their log source writes them. ``shapes`` hold what the records of one log source have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.model.case import with_part
from detection_pack.model.documents import Document, Key, load_documents
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource

#: Below the pack's folder.
FILES = "tests/atomics/*/records.yml"
_SET_KEYS = {"title", "test", "no_test", "fires", "records"}
_RECORD_KEYS = {"shape", "record", "each"}
_SHAPE_KEYS = {"source", "record"}


@dataclass(frozen=True)
class RawRecord:
    """One record and the log source that writes it."""

    source: LogSource
    record: Mapping[str, Any]


@dataclass(frozen=True)
class RecordSet:
    """Records that belong together, and the rules that fire on them: exactly these.

    ``test`` is the atomic test's GUID; None where no lab can make the records, ``no_test`` then says why.
    """

    title: str
    path: Path
    line: int
    fires: tuple[str, ...]
    records: tuple[RawRecord, ...]
    test: str | None = None
    no_test: str | None = None


def load_record_sets(root: Path, sources: Mapping[str, LogSource]) -> list[RecordSet]:
    """Every set of the pack below ``root``, in the order of the files. Raises `PackError` with all faults."""
    found: list[RecordSet] = []
    faults: list[Finding] = []
    for path in sorted(root.glob(FILES)):
        try:
            found += _Reading(path, sources).sets()
        except PackError as error:
            faults += error.findings
    if not found and not faults:
        faults.append(Finding(str(root / FILES), 1, "holds no records", "name the pack's folder by --root"))
    if faults:
        raise PackError(faults)
    return found


class _Reading:
    """One file, read to its end: every fault of it is reported."""

    def __init__(self, path: Path, sources: Mapping[str, LogSource]) -> None:
        documents = load_documents(path)
        if len(documents) != 1 or not isinstance(documents[0].data, dict):
            raise PackError.at(path, 1, "is not one mapping", 'write "shapes" and "sets"')
        self.document: Document = documents[0]
        self.sources = sources
        self.faults: list[Finding] = []

    def sets(self) -> list[RecordSet]:
        data = self.document.data
        self.only((), data, {"shapes", "sets"})
        shapes = dict(self.shapes(self.mapping(("shapes",), data.get("shapes"))))
        found = [
            self.one(("sets", index), self.mapping(("sets", index), stated), shapes)
            for index, stated in enumerate(self.listed(("sets",), data.get("sets")))
        ]
        if self.faults:
            raise PackError(self.faults)
        return found

    def shapes(self, stated: Mapping[Any, Any]) -> Iterator[tuple[str, RawRecord]]:
        for name, about in stated.items():
            at = ("shapes", name)
            entry = self.mapping(at, about)
            self.only(at, entry, _SHAPE_KEYS)
            source = self.sources.get(str(entry.get("source")))
            if source is None or source.simulation is None:
                what = "names no log source whose records can be simulated"
                self.fault((*at, "source"), what, 'name a folder of pipelines/ with "simulation:"')
            else:
                yield str(name), RawRecord(source, self.mapping((*at, "record"), entry.get("record")))

    def one(
        self, at: tuple[Key, ...], entry: Mapping[Any, Any], shapes: Mapping[str, RawRecord]
    ) -> RecordSet:
        self.only(at, entry, _SET_KEYS)
        title = entry.get("title")
        if not isinstance(title, str):
            self.fault(at, "has no title", 'add "title:"')
        if ("test" in entry) == ("no_test" in entry):
            todo = 'write "test:" with the GUID of the atomic test, or "no_test:" with the reason'
            self.fault(at, "names neither an atomic test nor why there is none", todo)
        fires = self.listed((*at, "fires"), entry.get("fires"))
        if not fires:
            self.fault(at, "names no rule that fires", 'add "fires:"')
        records: list[RawRecord] = []
        for index, stated in enumerate(self.listed((*at, "records"), entry.get("records"))):
            records += self.records((*at, "records", index), stated, shapes)
        if not records:
            self.fault(at, "has no records", 'add "records:"')
        return RecordSet(
            str(title),
            self.document.path,
            self.document.line(*at),
            tuple(map(str, fires)),
            tuple(records),
            entry.get("test"),
            entry.get("no_test"),
        )

    def records(
        self, at: tuple[Key, ...], stated: Any, shapes: Mapping[str, RawRecord]
    ) -> Iterator[RawRecord]:
        entry = self.mapping(at, stated)
        self.only(at, entry, _RECORD_KEYS)
        shape = shapes.get(str(entry.get("shape")))
        if shape is None:
            self.fault((*at, "shape"), "is not a shape of this file", f"use {', '.join(shapes)}")
            return
        own = self.mapping((*at, "record"), entry.get("record"))
        for index, each in enumerate(self.listed((*at, "each"), entry.get("each")) or [{}]):
            record: Mapping[str, Any] = shape.record
            for name, value in {**own, **self.mapping((*at, "each", index), each)}.items():
                record = with_part(record, name, value)
            if shape.source.time.of(record) is None:
                self.fault(at, f"has a record without a readable {shape.source.time.field}", "add it")
            yield RawRecord(shape.source, record)

    def mapping(self, at: tuple[Key, ...], value: Any) -> dict[Any, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self.fault(at, "is not a mapping", "write key: value")
        return {}

    def listed(self, at: tuple[Key, ...], value: Any) -> list[Any]:
        if value is None or isinstance(value, list):
            return value or []
        self.fault(at, "is not a list", "write a list")
        return []

    def only(self, at: tuple[Key, ...], entry: Mapping[Any, Any], known: set[str]) -> None:
        for key in entry:
            if key not in known:
                self.fault((*at, key), f'"{key}" is unknown here', f"use {', '.join(sorted(known))}")

    def fault(self, at: tuple[Key, ...], what: str, todo: str) -> None:
        self.faults.append(Finding(str(self.document.path), self.document.line(*at), what, todo))

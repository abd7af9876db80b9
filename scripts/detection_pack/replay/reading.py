"""What people really export, read into a database of records.

Any mix of files in one run. Nothing is refused whole for a part: what cannot be read is skipped, counted and
named with its file and line; what is of no kind that the pack reads is counted as what it is. A record with
the identity and the content of another is an export's repetition; one with the identity alone is another
record, and gets a name of its own.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType

from detection_pack.model.event import Event
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.record_store import FILE, PLACE, RecordStore
from detection_pack.platforms.records import ID, RECORD, Records
from detection_pack.replay.export_file import ExportFile, export_file
from detection_pack.replay.inputs import Inputs
from detection_pack.replay.loading import Loader
from detection_pack.replay.locating import Located, located
from detection_pack.replay.matching import Matcher
from detection_pack.replay.repetitions import settle

#: How many skipped records are named; all are counted.
NAMED = 10
#: Called with the file, and how many are done.
Progress = Callable[[str, int], None]


@dataclass
class Skipped:
    """The records that could not be read: how many, and the first ``named`` of them (None: all). With
    ``strict`` the first raises."""

    strict: bool = False
    named: int | None = NAMED
    count: int = 0
    first: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        if self.strict:
            raise PackError([finding])
        self.count += 1
        if self.named is None or self.count <= self.named:
            self.first.append(finding)


@dataclass
class Reading:
    """What was read.

    ``counts``: records by the source's name and their kind. ``span``: the first and the last time, aware, in
    UTC. ``repeated``: how many records were repetitions of others. ``other``: entries that no source reads,
    by what they are. ``partial``: files whose form cannot say what the chosen rules read. ``unreadable``:
    files that gave nothing. Close it when the records are done with: temporary files go then.
    """

    records: Records
    counts: Mapping[tuple[str, str], int]
    span: tuple[datetime, datetime] | None
    skipped: Skipped
    repeated: int
    other: Mapping[str, int]
    partial: tuple[Finding, ...]
    unreadable: tuple[Finding, ...]
    files: tuple[str, ...]
    _exports: tuple[ExportFile, ...]
    _matcher: Matcher
    _stack: ExitStack

    def record(self, source: str, id: str) -> Located | None:
        """The whole record of an id, with its file and line; None for an id that was not read."""
        return self.located(source, [id]).get(id)

    def located(self, source: str, ids: Iterable[str]) -> Mapping[str, Located]:
        """The whole records of these ids of a source, by id: one more pass over the files that hold them."""
        return located(self.records, self._exports, self._matcher, source, ids)

    def events(self) -> list[Event]:
        """The records as events; those of sources whose whole records were read."""
        cursor, found = self.records.connection.cursor(), []
        for source in self.records.sources:
            table = self.records.tables[source.name]
            if table.whole:
                rows = cursor.execute(f"SELECT {ID}, {RECORD} FROM {table.name} ORDER BY {FILE}, {PLACE}")
                found += [Event(name, source, json.loads(record)) for name, record in rows.fetchall()]
        return found

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(
    paths: Sequence[Path],
    sources: Iterable[LogSource] | Mapping[str, LogSource],
    wanted: Mapping[str, frozenset[str] | None] | None = None,
    *,
    strict: bool = False,
    progress: Progress | None = None,
    verbose: bool = False,
) -> Reading:
    """Every record of the files, once each.

    ``wanted``: by the name of a source the top-level keys that are needed of its records, or None for the
    whole records; without it, all are whole. ``strict``: the first record or file that cannot be read raises.
    ``verbose``: every skipped record is named, not only the first `NAMED`. Raises `PackError` also where no
    record at all was read.
    """
    known = tuple(sources.values() if isinstance(sources, Mapping) else sources)
    if wanted is None:
        wanted = {source.name: None for source in known}
    skipped = Skipped(strict, None if verbose else NAMED)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detection-pack-")))
        store, matcher, inputs = RecordStore(known, wanted), Matcher(known), Inputs(folder)
        loader = Loader(store, matcher, skipped.add)
        for number, text in enumerate(inputs.files(paths)):
            if progress is not None:
                progress(text.label, number)
            inputs.unreadable += loader.load(export_file(text.label, text.path, matcher.knows, matcher.parts))
            if strict and (inputs.unreadable or inputs.cut):
                raise PackError([*inputs.unreadable, *inputs.cut])
        store.flush()
        if strict and (inputs.unreadable or inputs.cut):
            raise PackError([*inputs.unreadable, *inputs.cut])
        for finding in inputs.cut:
            skipped.add(finding)
        if not loader.read:
            raise PackError([*skipped.first, *inputs.unreadable] or _nothing_named(paths))
        repeated = settle(store, loader.exports, matcher)
        counts = store.counted()
        records = store.records()
        return Reading(
            records=records,
            counts=counts,
            span=records.span(),
            skipped=skipped,
            repeated=repeated,
            other=Counter(loader.other),
            partial=tuple(loader.partial),
            unreadable=tuple(inputs.unreadable),
            files=tuple(one.label for one in loader.exports),
            _exports=tuple(loader.exports),
            _matcher=matcher,
            _stack=stack.pop_all(),
        )
    raise AssertionError  # the stack lets no exception pass


def _nothing_named(paths: Sequence[Path]) -> Iterator[Finding]:
    for path in paths:
        yield Finding(str(path), 1, "holds no file", "name a file or a folder with files")

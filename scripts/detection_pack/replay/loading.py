"""One file after another into a store of records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath

from detection_pack.model.export_form import ExportForm
from detection_pack.model.findings import Finding
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.record_store import RecordStore, Row
from detection_pack.replay.clean_rows import CleanRows, clean_rows, folded
from detection_pack.replay.export_file import SUB, ExportFile
from detection_pack.replay.json_values import Entry
from detection_pack.replay.matching import Match, Matcher, Other, Unreadable
from detection_pack.replay.partial import gaps


class Loader:
    """Fills ``store``. ``skip`` is told of each record that cannot be read.

    ``read`` counts the records, ``other`` the entries of no source by what they are; ``exports`` are the
    files by the number that the store's rows have; ``partial`` says which files cannot hold what is wanted.
    """

    def __init__(self, store: RecordStore, matcher: Matcher, skip: Callable[[Finding], None]) -> None:
        self.store, self.matcher = store, matcher
        self.read = 0
        self.other: Counter[str] = Counter()
        self.partial: list[Finding] = []
        self.exports: list[ExportFile] = []
        self._skip = skip
        self._skipped = 0
        self._names: dict[str, str] = {}
        self._wanted = {
            source.name: None
            if store.tables[source.name].whole
            else frozenset(store.tables[source.name].columns)
            for source in store.sources
        }

    def load(self, file: ExportFile) -> list[Finding]:
        """Every record of the file; why there is none at all, if there is none."""
        if file.empty:
            return [self._nothing(file, "holds no record")]
        if file.table is not None and not self.matcher.columns.intersection(file.table.header):
            return [self._nothing(file, "is not an export that the pack reads")]
        number = len(self.exports)
        self.exports.append(file)
        read, others, skipped = self.read, self.other.total(), self._skipped
        found = set(self._load(number, file))
        for source, form in sorted(found, key=lambda one: (one[0].name, one[1].title)):
            self.partial += gaps(file, source, form, self._wanted[source.name])
        if self.read > read:
            return []
        if self._skipped > skipped:
            what = f"holds no record that can be read, {self._skipped - skipped} skipped"
        elif others := self.other.total() - others:
            what = f"holds {others} records, none of a kind that the pack reads"
        else:
            what = "holds no record"
        return [self._nothing(file, what)]

    def _load(self, number: int, file: ExportFile) -> Iterator[tuple[LogSource, ExportForm]]:
        left = self._load_clean(number, file)
        if left is None:
            yield from self.entries(number, file, file.places())
            return
        clean, rows = left
        yield clean.source, clean.form
        yield from self.entries(number, self.exports[number], self.exports[number].at(rows))

    def _load_clean(self, number: int, file: ExportFile) -> tuple[CleanRows, list[int]] | None:
        """Load the clean rows of a file at once: how, and which are left; None where none was loaded."""
        clean = clean_rows(file, self.matcher)
        if clean is None:
            return None
        table = self.store.tables[clean.source.name]
        if table.whole or folded(list(table.columns)):
            return None
        filled = self.store.fill(clean.source, clean.insert(table, number))
        if filled is None:
            return None
        count, left = filled
        file = replace(file, by_row=True)
        if left and file.table is not None and file.count() != count + len(left):
            self.store.discard(clean.source, number)
            return None
        self.exports[number] = file
        self.read += count
        return clean, [place // SUB for place in left]

    def entries(
        self, number: int, file: ExportFile, entries: Iterable[tuple[int, Entry]]
    ) -> Iterator[tuple[LogSource, ExportForm]]:
        """Load entries one by one; the sources and forms that they are of."""
        seen: set[tuple[LogSource, ExportForm]] = set()
        line, beside = 0, 0
        for place, entry in entries:
            match = self._match(file, entry)
            if match is None:
                continue
            self.read += 1
            # What nothing identifies stands for itself, even where a line holds several that say the same.
            beside = beside + 1 if entry.line == line else 1
            line = entry.line
            stated = f"{line}" if beside == 1 else f"{line}:{beside}"
            name = match.id or f"{self.name(file)}:{stated}"
            self.store.add(match.source, self._row(match, name, number, place))
            if (match.source, match.form) not in seen:
                seen.add((match.source, match.form))
                yield match.source, match.form

    def name(self, file: ExportFile) -> str:
        """What a file is called in the names of its records: its last part, or all where two have the
        same."""
        base = PurePath(file.label).name
        return base if self._names.setdefault(base, file.label) == file.label else file.label

    def _match(self, file: ExportFile, entry: Entry) -> Match | None:
        if entry.data is None:
            self.skip(file, entry.line, entry.fault, entry.todo)
            return None
        try:
            match = self.matcher.match(entry.data)
        except Unreadable as error:
            self.skip(file, entry.line, error.what, error.todo)
            return None
        if isinstance(match, Other):
            self.other[match.what] += 1
            return None
        return match

    def skip(self, file: ExportFile, line: int, what: str, todo: str) -> None:
        self._skipped += 1
        self._skip(Finding(file.label, line, what, todo))

    def _row(self, match: Match, name: str, number: int, place: int) -> Row:
        table = self.store.tables[match.source.name]
        keys = tuple(_json(match.record.get(key)) for key in table.columns)
        whole = match.as_event().json() if table.whole else None
        return Row(name, match.time, number, place, match.kind, whole, keys)

    def _nothing(self, file: ExportFile, what: str) -> Finding:
        """Why a file gives no record."""
        if "skipped" in what:
            return Finding(file.label, 1, what, "export it again")
        return Finding(file.label, 1, what, f"export some of: {'; '.join(self.matcher.titles)}")


def _json(value: object) -> str | None:
    """A value as JSON text, no half of a surrogate pair in it; None for null."""
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace").decode()

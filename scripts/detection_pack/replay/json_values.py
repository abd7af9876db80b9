"""The objects of a JSON text, one after another, whatever stands between them.

JSON lines, an array (pretty or not), arrays and objects one after another, and an object that holds the
records in a list are one thing here: commas and brackets between objects mean nothing. What is not JSON is
one fault, after which reading goes on with the next object on a line of its own. Memory is that of one
object.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

#: The longest object in characters, and the largest that is read whole to see whether it holds others.
LONGEST, WHOLE = 32 << 20, 4 << 20
BLOCK = 1 << 18
#: Keys under which exports and APIs list their records.
LISTS = ("Results", "results", "value", "records", "Records", "hits", "data", "items")
_GAP, _GAP_IN_ENVELOPE = re.compile(r"[\s,\[\]]*"), re.compile(r"[\s,\[\]}]*")
_SPACE = re.compile(r"\s*")
#: An error this near to the end of what was read may be one of what was not.
_NEAR = 16


Known = Callable[[Mapping[str, Any]], bool]
#: The entries that one entry holds: itself, or several.
Parts = Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]]


def whole(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """An entry that is not divided."""
    return [data]


@dataclass(frozen=True)
class Entry:
    """A record of an export, or why there is none at this place. ``line`` counts from 1."""

    line: int
    data: Mapping[str, Any] | None
    fault: str = ""
    todo: str = ""


class JsonValues:
    """The entries of a stream of UTF-8. ``known`` says of an object that it is a record itself, whatever
    lists it has, and ``parts`` which entries it holds."""

    def __init__(self, stream: IO[bytes], known: Known, first_line: int = 1, parts: Parts = whole) -> None:
        self._stream, self._known, self._parts = stream, known, parts
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._buffer, self._at, self._line = "", 0, first_line
        self._ended, self._in_envelope = False, False
        self._raw_decode = json.JSONDecoder().raw_decode

    def __iter__(self) -> Iterator[Entry]:
        while self._skip_gap():
            start = self._at
            try:
                value, end = self._raw_decode(self._buffer, start)
            except RecursionError:
                yield self._bad("is nested too deeply", "export the record again")
                continue
            except ValueError as error:
                if self._may_go_on(error, start):
                    if not self._open_envelope(start):
                        self._more()
                else:
                    yield self._bad("is not JSON", "export one JSON object a line")
                continue
            if end == len(self._buffer) and not self._ended and not isinstance(value, dict):
                self._more()  # the rest of a number, perhaps
                continue
            yield from self._entries(value, start, end)

    def _entries(self, value: Any, start: int, end: int) -> Iterator[Entry]:
        line = self._line
        text = self._buffer[start:end]
        self._line += text.count("\n")
        self._at = end
        if isinstance(value, dict):
            if not text.isascii() and re.search("[\udc80-\udcff]", text):
                yield Entry(line, None, "is not UTF-8", "export it as UTF-8")
                return
            for entry in _unpacked(value, line, self._known):
                if entry.data is None:
                    yield entry
                else:
                    yield from (Entry(line, part) for part in self._parts(entry.data))
        elif self._in_envelope and isinstance(value, str) and self._skip_member():
            return
        else:
            yield Entry(line, None, "is not a record", "export objects")

    def _skip_gap(self) -> bool:
        """Go to the next value; False at the end."""
        gap = _GAP_IN_ENVELOPE if self._in_envelope else _GAP
        while True:
            found = gap.match(self._buffer, self._at)
            assert found is not None
            self._line += self._buffer.count("\n", self._at, found.end())
            self._at = found.end()
            if self._at < len(self._buffer):
                return True
            if not self._more():
                return False

    def _more(self) -> bool:
        """Read as much as is there already, so that an object is tried a few times only; False at the end."""
        if self._ended:
            return False
        self._buffer = self._buffer[self._at :]
        self._at = 0
        block = self._stream.read(max(BLOCK, len(self._buffer)))
        self._buffer += self._decode(block, not block)
        self._ended = not block
        return True

    def _may_go_on(self, error: ValueError, start: int) -> bool:
        # A number of thousands of digits is a fault of another kind: Python does not read it.
        if self._ended or len(self._buffer) - start > LONGEST or not isinstance(error, json.JSONDecodeError):
            return False
        return error.pos >= len(self._buffer) - _NEAR or error.msg.startswith("Unterminated string")

    def _bad(self, what: str, todo: str) -> Entry:
        """Name the place, and go on with the next object that begins a line as this one does."""
        entry = Entry(self._line, None, what, todo)
        before = self._buffer[self._buffer.rfind("\n", 0, self._at) + 1 : self._at]
        opened = self._buffer[self._at] == "{"
        indent = before if opened and not before.strip() else r"\s*" if not opened else ""
        pattern = re.compile(rf"\n{indent}(?=[\[{{])")
        self._line += self._buffer.count("\n", self._at, self._at + 1)
        self._at += 1
        while True:
            if (found := pattern.search(self._buffer, self._at)) is not None:
                self._line += self._buffer.count("\n", self._at, found.end())
                self._at = found.end()
                return entry
            # The last line may be the beginning of what is looked for.
            keep = max(self._buffer.rfind("\n"), self._at)
            self._line += self._buffer.count("\n", self._at, keep)
            self._at = keep
            if not self._more():
                self._line += self._buffer.count("\n", self._at)
                self._at = len(self._buffer)
                return entry

    def _open_envelope(self, start: int) -> bool:
        """Step into an object too large to be one record, if its first list of records can be found."""
        if self._in_envelope or len(self._buffer) - start < WHOLE or self._buffer[start] != "{":
            return False
        at = start + 1
        try:
            while True:
                at = _after(_SPACE, self._buffer, at)
                key, at = self._raw_decode(self._buffer, at)
                at = _after(_SPACE, self._buffer, at)
                if not isinstance(key, str) or self._buffer[at : at + 1] != ":":
                    return False
                at = _after(_SPACE, self._buffer, at + 1)
                if key in LISTS and self._buffer[at : at + 1] in ("[", "{"):
                    self._line += self._buffer.count("\n", self._at, at)
                    self._at = at + (1 if self._buffer[at] == "[" else 0)
                    self._in_envelope = True
                    return True
                _, at = self._raw_decode(self._buffer, at)
                at = _after(_SPACE, self._buffer, at)
                if self._buffer[at : at + 1] != ",":
                    return False
                at += 1
        except (ValueError, RecursionError):
            return False

    def _skip_member(self) -> bool:
        """Behind a key of the envelope: over its value."""
        self._skip_gap()
        if self._buffer[self._at] != ":":
            return False
        at = _after(_SPACE, self._buffer, self._at + 1)
        try:
            _, end = self._raw_decode(self._buffer, at)
        except (ValueError, RecursionError):
            end = at
        self._line += self._buffer.count("\n", self._at, end)
        self._at = end
        return True


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _unpacked(value: dict[str, Any], line: int, known: Known, level: int = 0) -> Iterator[Entry]:
    """The object, or the records that it lists."""
    listed = next((value[key] for key in LISTS if isinstance(value.get(key), list | dict)), None)
    tables = value.get("tables")
    if (not isinstance(tables, list) and listed is None) or known(value):
        yield Entry(line, value)
    elif isinstance(tables, list):
        yield from _of_tables(tables, line)
    elif isinstance(listed, dict) and level < 2 and any(isinstance(listed.get(key), list) for key in LISTS):
        yield from _unpacked(listed, line, known, level + 1)
    elif isinstance(listed, list) and all(isinstance(one, dict) for one in listed):
        for one in listed:
            yield Entry(line, one)
    else:
        yield Entry(line, value)


def _of_tables(tables: list[Any], line: int) -> Iterator[Entry]:
    """Rows and columns apart, as the query API of Log Analytics answers."""
    for table in tables:
        try:
            names = [column["name"] for column in table["columns"]]
            for row in table["rows"]:
                yield Entry(line, dict(zip(names, row, strict=True)))
        except (TypeError, KeyError, ValueError):
            yield Entry(line, None, "holds a table that cannot be read", "export the rows")

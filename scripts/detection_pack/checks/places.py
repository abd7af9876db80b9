"""Where in its line a finding's value stands, and the line with a caret under it.

Lines and columns are those of a text editor. A finding names the value that it is about in quotation marks; a
place is given only where exactly one piece of the line is that value, so that no caret points at a guess.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from detection_pack.model.findings import Finding, printable

#: What a finding quotes: pySigma's values in single marks first, as the key is in double ones before them.
_QUOTED = (re.compile(r"'([^']+)'"), re.compile(r'"([^"]+)"'))
#: A finding that is about the value of the key that it begins with, and the line that says both.
_KEYED = re.compile(r'"([^"|]+)": ')
_PAIR = re.compile(r"\s*(?:- )?([\w-]+):[ ]+([^\s#][^#]*?)\s*")
#: Cells of a terminal that a line may take before it is cut, and how many of them stand before the value.
_MOST, _BEFORE = 100, 25


@dataclass(frozen=True)
class Place:
    """A piece of a line: the characters from ``start`` up to ``end``, counted from 0."""

    start: int
    end: int

    def columns(self, line: str) -> tuple[int, int]:
        """The same from 1 in UTF-16 code units, the end past the last, as SARIF's ``startColumn``."""
        return _units(line[: self.start]) + 1, _units(line[: self.end]) + 1


def place_of(finding: Finding, line: str) -> Place | None:
    """Where ``line``, the finding's own, says what the finding quotes; None where it is not there once."""
    for quoted in _QUOTED:
        if quoted is _QUOTED[1] and (place := _value_of(finding, line)):
            return place
        for value in quoted.findall(finding.what):
            found = [match.span() for match in re.finditer(re.escape(value), line)]
            whole = [(start, end) for start, end in found if _is_whole(line, start, end)]
            if len(whole) == 1:
                return Place(*whole[0])
    return None


def snippet(line: str, place: Place) -> str:
    """The line and under it carets at the place, in two indented lines.

    Characters that do not print are escapes, wide ones take two cells, and of a long line what stands around
    the place is shown.
    """
    first, last = 0, len(line)
    if last > _MOST or sum(map(_cost, line)) > _MOST:
        first = place.start - _fitting(line[max(place.start - _BEFORE, 0) : place.start][::-1], _BEFORE)
        last = place.start + _fitting(line[place.start : place.start + _MOST], _MOST - _BEFORE)
    before = ("…" if first else "") + printable(line[first : place.start])
    value = printable(line[place.start : min(place.end, last)])
    after = printable(line[min(place.end, last) : last]) + ("…" if last < len(line) else "")
    return f"  {before}{value}{after}\n  {' ' * _cells(before)}{'^' * max(_cells(value), 1)}\n"


def _value_of(finding: Finding, line: str) -> Place | None:
    """The value in a line of one key and its value, of a finding that begins with the key."""
    keyed, pair = _KEYED.match(finding.what), _PAIR.fullmatch(line)
    return Place(*pair.span(2)) if keyed and pair and keyed[1] == pair[1] else None


def _is_whole(line: str, start: int, end: int) -> bool:
    """Whether it is no piece of a longer word."""
    before, first, last, after = line[start - 1 : start], line[start], line[end - 1], line[end : end + 1]
    return not (_joins(before) and _joins(first)) and not (_joins(last) and _joins(after))


def _joins(character: str) -> bool:
    return character.isalnum() or character in ("_", "-")


def _fitting(text: str, cells: int) -> int:
    """How many characters from the first on take no more than so many cells."""
    for number, character in enumerate(text):
        cells -= _cost(character)
        if cells < 0:
            return number
    return len(text)


def _cost(character: str) -> int:
    """Its cells as shown, a combining one too: thousands of these make a line long as well."""
    return max(_cells(printable(character)), 1)


def _cells(text: str) -> int:
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

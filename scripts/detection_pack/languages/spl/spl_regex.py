r"""Perl-compatible patterns of `match`, `regex` and `replace` as RE2, which DuckDB runs.

Splunk uses PCRE (Search Manual, "About Splunk regular expressions"). RE2 has no lookaround, so the two
boundaries that the pack writes are turned into a consumed neighbour, which answers the same as long as only
"does it match" is asked and nothing of the pattern lies beyond the boundary. Whatever means something else in
RE2 is refused.
"""

from __future__ import annotations

import re

from detection_pack.languages.spl.spl_characters import (
    ASCII_FOLLOWS,
    BEYOND_ASCII,
    FORMER_END,
    FORMER_START,
    TERM_END,
    TERM_START,
)
from detection_pack.languages.spl.spl_parser import UnsupportedSpl

_SPACE = r"\t\n\x0b\f\r "
_FLAGS = re.compile(r"\(\?([ims]+)\)")
_GROUP = re.compile(r"\((?:\?(?:[ims]*(?:-[ims]+)?):|(?!\?))")
_ESCAPE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|x\{[0-9a-fA-F]{1,6}\}|[pP]\{[A-Za-z]{1,2}\}|[pP][LNMPSZC]|[dDwWsSbBAz]|[tnrf]|[^A-Za-z0-9])",
    re.DOTALL,
)
#: PCRE counts the vertical tab as a space, RE2 does not; under (?i) RE2 counts the Kelvin sign and the long
#: s, which are k and s, as letters of ASCII.
_TYPES = {r"\s": f"[{_SPACE}]", r"\S": f"[^{_SPACE}]", r"\w": r"(?-i:\w)", r"\W": r"(?-i:\W)"}
_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]", re.DOTALL)
_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})\??")


def to_re2(regex: str, boolean: bool = True) -> str:
    """The RE2 form of a PCRE pattern. ``boolean`` says that only the existence of a match matters."""
    return _Translation(regex, boolean).text()


def _leading(text: str, *forms: str) -> str | None:
    """The one of the forms that the text begins with."""
    return next((form for form in forms if text.startswith(form)), None)


class _Translation:
    def __init__(self, regex: str, boolean: bool) -> None:
        self.regex, self.boolean = regex, boolean
        self.multiline = False

    def text(self) -> str:
        out, i = ["(?-s)"], 0
        at_start, groups = True, list[bool]()
        while leading := _FLAGS.match(self.regex, i):
            self.multiline = self.multiline or "m" in leading[1]
            out.append(leading[0])
            i = leading.end()
        while i < len(self.regex):
            rest = self.regex[i:]
            starts = False
            if start := _leading(rest, TERM_START, FORMER_START):
                if not (self.boolean and at_start):
                    raise self._refused(i)
                out.append(r"(?:\A|[^\p{L}\p{N}])")
                i += len(start)
            elif end := _leading(rest, TERM_END, FORMER_END):
                if not self.boolean or not self._nothing_follows(i + len(end)):
                    raise self._refused(i)
                out.append(r"(?:\z|[^\p{L}\p{N}])")
                i += len(end)
            elif rest.startswith(ASCII_FOLLOWS):
                # The pack writes it before an atom whose other characters are an alternative of their own.
                i += len(ASCII_FOLLOWS)
            elif rest[0] == "(" and not rest.startswith(BEYOND_ASCII):
                group = _GROUP.match(self.regex, i)
                if group is None:
                    raise self._refused(i)
                if "m" in group[0]:
                    raise self._refused(i)
                groups.append(at_start)
                starts = at_start
                out.append(group[0])
                i = group.end()
            elif rest[0] == "|":
                starts = groups[-1] if groups else True
                out.append("|")
                i += 1
            elif rest[0] == ")":
                if groups:
                    groups.pop()
                out.append(")")
                i += 1
            elif rest[0] == "$" or rest.startswith("\\Z"):
                out.append(self._end(i, 1 if rest[0] == "$" else 2))
                i += 1 if rest[0] == "$" else 2
            else:
                piece, i = self._piece(i)
                out.append(piece)
                # A start of the value leaves the next atom at the start too: nothing is consumed.
                starts = at_start and piece in ("^", r"\A")
            at_start = starts
        return "".join(out)

    def _piece(self, i: int) -> tuple[str, int]:
        """An atom with its quantifier."""
        c = self.regex[i]
        if self.regex.startswith(BEYOND_ASCII, i):
            # In RE2 too (?i) would take the Kelvin sign, which is k, out of it.
            return self._quantified(r"(?-i:[^\x00-\x7f])", i + len(BEYOND_ASCII))
        if c == "[":
            found = _CLASS.match(self.regex, i)
            if found is None:
                raise self._refused(i)
            piece = self._class(found[0], i)
        elif c == "\\":
            found = _ESCAPE.match(self.regex, i)
            if found is None:
                raise self._refused(i)
            piece = _TYPES.get(found[0], found[0])
        else:
            found = re.compile(".", re.DOTALL).match(self.regex, i)
            assert found is not None
            piece = c
        return self._quantified(piece, found.end())

    def _quantified(self, piece: str, end: int) -> tuple[str, int]:
        if quantifier := _QUANTIFIER.match(self.regex, end):
            piece += quantifier[0]
            end = quantifier.end()
            if self.regex[end : end + 1] == "+" and quantifier[0][-1:] != "?":
                raise self._refused(end)
        return piece, end

    def _class(self, text: str, i: int) -> str:
        if r"\S" in text or re.search(r"\\[bBAzZ]|\\[a-zA-Z0-9](?<![\\tnrfdDwWspPx])", text):
            raise self._refused(i)
        return re.sub(r"\\s", lambda _: _SPACE, text)

    def _end(self, i: int, length: int) -> str:
        """``$`` also matches before a last line break; RE2's does not."""
        if self.multiline and length == 1:
            return "$"
        if not self.boolean or not self._nothing_follows(i + length):
            raise self._refused(i)
        return r"\n?\z"

    def _nothing_follows(self, i: int) -> bool:
        """Whether the pattern is over at ``i``: only ends of groups and other alternatives follow."""
        depth, skipping = 0, False
        while i < len(self.regex):
            c = self.regex[i]
            if skipping and c in "\\[":
                found = (
                    re.compile(r"\\.", re.DOTALL).match(self.regex, i)
                    if c == "\\"
                    else _CLASS.match(self.regex, i)
                )
                if found is None:
                    return False
                i = found.end()
                continue
            if c == ")" and depth == 0:
                skipping = False
                if _QUANTIFIER.match(self.regex, i + 1):
                    return False
            elif c == "|" and not skipping:
                skipping = True
            elif not skipping:
                return False
            elif c in "()":
                depth += 1 if c == "(" else -1
            i += 1
        return True

    def _refused(self, i: int) -> UnsupportedSpl:
        return UnsupportedSpl(f"the pattern {self.regex[i : i + 20]!r} has no exact form in RE2")

"""Regular expressions by PCRE2 itself.

Splunk's are "PCRE (Perl Compatible Regular Expressions) and use the PCRE C library" (Knowledge Manager
Manual, "About Splunk regular expressions"). Whether it hands the library characters (PCRE2_UTF) or bytes is
documented nowhere, so both are here. UTF mode is without PCRE2_UCP, the library's default: ``\\w`` and
``\\d`` are ASCII in both (pcre2pattern(3), "Generic character types").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pcre2

from support.spl.errors import UnsupportedSearch


@dataclass(frozen=True)
class Mode:
    """How PCRE reads a text. ``utf`` is PCRE2_UTF."""

    name: str
    utf: bool

    def _compiled(self, regex: str) -> Any:
        return _compile(regex, self.utf)

    def matches(self, regex: str, text: str) -> bool:
        """Whether the expression is found anywhere in the text."""
        return self._compiled(regex).search(self._subject(text)) is not None

    def replaced(self, regex: str, replacement: str, text: str) -> str:
        r"""``text`` with each match replaced; ``\1`` in the replacement is the first group, and so on."""
        subject = self._subject(text)
        pieces, end = [], 0
        for match in self._compiled(regex).finditer(subject):
            pieces += [subject[end : match.start()], self._filled(replacement, match)]
            end = match.end()
        joined = (subject[:0]).join([*pieces, subject[end:]])
        return joined if isinstance(joined, str) else joined.decode("utf-8", "surrogateescape")

    def _filled(self, replacement: str, match: Any) -> Any:
        filled = self._subject("")
        for piece in re.findall(r"\\\d|\\?[^\\]|\\", replacement):
            if re.fullmatch(r"\\\d", piece):
                filled += match[int(piece[1])] or self._subject("")
            else:
                filled += self._subject(piece)
        return filled

    def _subject(self, text: str) -> Any:
        return text if self.utf else text.encode("utf-8", "surrogateescape")


#: Options that the package sets of its own accord: JavaScript's escapes, in which ``\x{e9}`` is no
#: character by its number (pcre2api(3), PCRE2_ALT_BSUX), and PCRE2_UCP.
_ALT_BSUX, _UCP = 0x00000002, 0x00020000


@lru_cache(maxsize=4096)
def _compile(regex: str, utf: bool) -> Any:
    text: Any = regex if utf else regex.encode()
    try:
        # The package's public `compile` cannot take these options away.
        code = pcre2._cy.compile(text, 0, _ALT_BSUX | _UCP)
        pcre2._cy.jit_compile(code)
    except pcre2.PatternError as error:
        raise UnsupportedSearch(f"PCRE does not read the expression {regex!r}: {error}") from error
    return pcre2.Pattern(code, text, 0, True, None)


UTF = Mode("utf", True)
BYTES = Mode("bytes", False)
MODES = (UTF, BYTES)

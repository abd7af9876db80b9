"""The text of a search as tokens, after its macros have been replaced.

Macros stand between backticks (Knowledge Manager Manual, "Use search macros in searches"), and not inside
quoted values. In a quoted string ``\\"`` is a quotation mark and ``\\\\`` a backslash; any other backslash
stands for itself (Search Manual, "Backslashes" and "Quotes and escaping characters").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from support.spl.errors import UnsupportedSearch

_STRING = r'(?P<string>"(?:[^"\\]|\\.)*")'
#: Names and values of ``search``, ``stats`` and the like may hold dots, hyphens and wildcards.
_TERMS = re.compile(
    _STRING + r"""|(?P<operator>!=|<=|>=|[=<>(),|\[\]])|(?P<word>[^\s"=<>!(),|\[\]`]+)""", re.DOTALL
)
#: In an expression of ``eval`` a dot joins texts, and a field name with other characters is in single quotes.
_EXPRESSION = re.compile(
    _STRING
    + r"""|(?P<quoted>'[^']*')|(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)"""
    + r"""|(?P<operator>==|!=|<=|>=|[=<>(),|\[\].+\-*/%])""",
    re.DOTALL | re.ASCII,
)
_SPACE = re.compile(r"\s*")
_MACRO = re.compile(r'"(?:[^"\\]|\\.)*"|`([^`"]*)`', re.DOTALL)
#: Calls within calls.
_DEPTH = 100


@dataclass(frozen=True)
class Token:
    """``kind``: string, quoted (in single quotes), number, word, operator or end; ``text``: what it means."""

    kind: str
    text: str
    position: int
    end: int


def replaced_macros(search: str, macros: Mapping[str, str], depth: int = 0) -> str:
    """The search without macros. A macro with arguments is refused."""
    if depth > _DEPTH:
        raise UnsupportedSearch("macros that call each other without end", 0)

    def definition(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        if found[1] not in macros:
            raise UnsupportedSearch(f"the macro `{found[1]}` is not defined", found.start())
        return replaced_macros(macros[found[1]], macros, depth + 1)

    return _MACRO.sub(definition, search)


class Reader:
    """Tokens read one after the other. What is a token depends on the command: see `expression`."""

    def __init__(self, search: str) -> None:
        self._search = search
        self._at = 0
        self._pattern = _TERMS

    @contextmanager
    def expression(self) -> Iterator[None]:
        """Within, the tokens are those of ``eval``."""
        before, self._pattern = self._pattern, _EXPRESSION
        yield
        self._pattern = before

    @property
    def next(self) -> Token:
        return self._token(self._at)

    @property
    def following(self) -> Token:
        """The token after the next."""
        return self._token(self.next.end)

    def _token(self, start: int) -> Token:
        space = _SPACE.match(self._search, start)
        at = space.end() if space else start
        if at == len(self._search):
            return Token("end", "", at, at)
        match = self._pattern.match(self._search, at)
        if match is None:
            raise UnsupportedSearch(f"the text {self._search[at : at + 20]!r}", at)
        kind, text = str(match.lastgroup), match[0]
        if kind == "string":
            text = re.sub(r'\\(["\\])', r"\1", text[1:-1])
        elif kind == "quoted":
            text = text[1:-1]
        return Token(kind, text, at, match.end())

    def take(self) -> Token:
        token = self.next
        self._at = token.end
        return token

    def is_operator(self, *texts: str) -> bool:
        token = self.next
        return token.kind == "operator" and token.text in texts

    def is_word(self, *texts: str) -> bool:
        token = self.next
        return token.kind == "word" and token.text in texts

    def accept(self, text: str) -> bool:
        """Take this operator or word if it comes next."""
        if self.is_operator(text) or self.is_word(text):
            self.take()
            return True
        return False

    def expect(self, *texts: str) -> Token:
        if not (self.is_operator(*texts) or self.is_word(*texts)):
            raise self.refused(f"{' or '.join(texts)} is expected here")
        return self.take()

    def name(self) -> str:
        """A field name: a word, or in quotes."""
        if self.next.kind not in ("word", "string", "quoted"):
            raise self.refused("a name is expected here")
        return self.take().text

    def ends(self) -> bool:
        """Whether a command ends here."""
        return self.next.kind == "end" or self.is_operator("|", "]")

    def refused(self, what: str) -> UnsupportedSearch:
        token = self.next
        shown = "the end" if token.kind == "end" else repr(token.text[:40])
        return UnsupportedSearch(f"{what}, not {shown}", token.position)

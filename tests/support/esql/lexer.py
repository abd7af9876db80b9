"""Tokens of ES|QL, by the place where they stand: index names and column lists are read in another way.

Source: esql-syntax (identifiers, literals, comments) and Elasticsearch's lexer grammars (Expression.g4,
From.g4, Project.g4 below esql/src/main/antlr/lexer): the reserved words and what may stand bare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from support.esql.errors import Position, Refused

Mode = Literal["expression", "from", "project"]
Kind = Literal["name", "quoted", "keyword", "string", "integer", "decimal", "source", "op", "end"]

#: Words that are no identifiers in an expression, in any letter case (Expression.g4, all releases to 9.x).
KEYWORDS = frozenset(
    ("and", "asc", "by", "desc", "false", "first", "in", "is", "last", "like", "not", "null", "nulls", "on")
) | {"or", "rlike", "true", "where", "with"}
_BLANK = re.compile(r"(?:[ \r\n\t]+|//[^\r\n]*|/\*.*?\*/)+", re.DOTALL)
_STRING = re.compile(r'"""(?P<raw>[^\r\n]*?)"""(?!")|"(?P<text>(?:\\[tnr"\\]|[^\r\n"\\])*)"')
_QUOTED = re.compile(r"`(?:[^`]|``)+`")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*|[_@][A-Za-z0-9_]+")
_PATTERN = re.compile(r"(?:[A-Za-z*][A-Za-z0-9_*]*|[_@][A-Za-z0-9_*]+)")
_NUMBER = re.compile(r"(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SOURCE = re.compile(r'(?:[^:"=|,\[\]/() \t\r\n]|/(?![*/]))+')
_OPERATOR = re.compile(r"==|=~|!=|<=|>=|::|[-+*/%<>=|,.()\[\]:?{}]")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", '"': '"', "\\": "\\"}


@dataclass(frozen=True)
class Token:
    """``value``: the name without quotes, the text of a string, an int or a float; otherwise the text."""

    kind: Kind
    text: str
    value: str | int | float
    start: int
    end: int

    def is_op(self, *texts: str) -> bool:
        return self.kind == "op" and self.text in texts

    def is_word(self, *words: str) -> bool:
        return self.kind in ("name", "keyword") and self.text.lower() in words


class Lexer:
    """Reads one token at a time; ``mode`` says what may stand here."""

    def __init__(self, text: str) -> None:
        self.text = text
        #: Where the last token taken ends.
        self.at = 0

    def position(self, offset: int) -> Position:
        line = self.text.count("\n", 0, offset) + 1
        return Position(line, offset - (self.text.rfind("\n", 0, offset) + 1) + 1)

    def refused(self, offset: int, what: str) -> Refused:
        return Refused(self.position(offset), what)

    def peek(self, mode: Mode = "expression") -> Token:
        return self._scan(mode)

    def take(self, mode: Mode = "expression") -> Token:
        token = self._scan(mode)
        self.at = token.end
        return token

    def _scan(self, mode: Mode) -> Token:
        blank = _BLANK.match(self.text, self.at)
        start = blank.end() if blank else self.at
        if start >= len(self.text):
            return Token("end", "", "", start, start)
        if self.text.startswith("/*", start):
            raise self.refused(start, "a comment has no end")
        if found := _QUOTED.match(self.text, start):
            text = found[0]
            return Token("quoted", text, text[1:-1].replace("``", "`"), start, found.end())
        if mode != "project" and (found := _STRING.match(self.text, start)):
            raw = found["raw"]
            value = raw if raw is not None else re.sub(r"\\(.)", lambda m: _ESCAPES[m[1]], found["text"])
            return Token("string", found[0], value, start, found.end())
        if mode == "from":
            if self.text[start] in "|,":
                return Token("op", self.text[start], self.text[start], start, start + 1)
            found = _SOURCE.match(self.text, start)
            kind: Kind = "source"
        elif mode == "project":
            found, kind = _PATTERN.match(self.text, start), "name"
        else:
            if found := _NUMBER.match(self.text, start):
                whole = found[0].isdigit()
                number = int(found[0]) if whole else float(found[0])
                return Token("integer" if whole else "decimal", found[0], number, start, found.end())
            found, kind = _NAME.match(self.text, start), "name"
            if found and found[0].lower() in KEYWORDS:
                kind = "keyword"
        if found:
            return Token(kind, found[0], found[0], start, found.end())
        if found := _OPERATOR.match(self.text, start):
            return Token("op", found[0], found[0], start, found.end())
        raise self.refused(start, f"{self.text[start]!r} cannot stand here")

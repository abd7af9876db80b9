r"""The query strings that the pack emits, read as Lucene's classic parser reads them; others are refused.

Grammar (Lucene, ``QueryParser.jj``, and Elasticsearch, "Query string query", "Query string syntax")::

    query  = clause ((AND | OR) clause)*
    clause = [NOT] ( "(" query ")" | "*:*" | "_exists_:" name | name ":" (value | "(" query of values ")") )
    value  = word | "text" | /pattern/ | "[" bound TO bound "]" (or braces) | (">" | ">=" | "<" | "<=") word

A word ends at a blank or at one of ``+ - ! ( ) : ^ [ ] " { } ~ * ? \ /`` (``-`` and ``+`` may stand inside);
a backslash takes the character after it as it is. AND and OR have no precedence: AND makes both of its sides
compulsory, and where something is compulsory the rest is optional (``addClause``): ``a OR b AND c`` is b and
c.

Refused, because the pack never writes it: terms without a field, ``&& || ! + -``, boosts, fuzziness, two
clauses with nothing between them, field names with wildcards, ``\u`` escapes, the empty text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from detection_pack.languages.lucene.lucene_nodes import (
    Boolean,
    Everything,
    Exists,
    Occur,
    Query,
    Range,
    Regexp,
    Term,
    Wildcards,
    refuse,
)

EXISTS = "_exists_"
#: Levels of parentheses. Sigma conditions nest a tenth as deep.
MAX_DEPTH = 60
_BLANK = " \t\n\r\u3000"
_SPECIAL = '+-!():^[]"{}~*?\\/'
_OPERATORS = ("AND", "OR", "NOT")
_COMPARISONS = (">=", "<=", ">", "<")


@dataclass(frozen=True)
class _Word:
    """Characters of a word with whether each was escaped, and the offset of the first."""

    chars: tuple[tuple[str, bool], ...]
    at: int

    @property
    def text(self) -> str:
        return "".join(char for char, _ in self.chars)

    @property
    def is_operator(self) -> bool:
        return self.text in _OPERATORS and not any(escaped for _, escaped in self.chars)

    def has_wildcards(self) -> bool:
        return any(char in "*?" and not escaped for char, escaped in self.chars)


def parsed(text: str) -> Query:
    """The query that a query string stands for. Raises `UnsupportedLucene`."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> Query:
        half = next((n for n, char in enumerate(self._text) if "\ud800" <= char <= "\udfff"), None)
        if half is not None:
            refuse(self._text, half, "half of a UTF-16 pair")
        query = self._query(None)
        if self._at < len(self._text):
            self._unexpected()
        return query

    # -- clauses ---------------------------------------------------------------------------------------

    def _query(self, field: str | None) -> Query:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} levels of parentheses")
        clauses: list[tuple[Occur, Query]] = []
        conjunction = ""
        while True:
            negated = self._operator("NOT")
            if negated and self._operator("NOT"):
                self._refuse("NOT after NOT")
            query = self._clause(field)
            if conjunction == "AND" and clauses[-1][0] == "should":
                clauses[-1] = ("must", clauses[-1][1])
            occur: Occur = "must_not" if negated else "must" if conjunction == "AND" else "should"
            clauses.append((occur, query))
            self._skip()
            if self._peek() in ("", ")"):
                break
            conjunction = next((o for o in ("AND", "OR") if self._operator(o)), "")
            if not conjunction:
                self._unexpected()
        self._depth -= 1
        if len(clauses) == 1 and clauses[0][0] == "should":
            return clauses[0][1]
        return Boolean(tuple(clauses))

    def _clause(self, field: str | None) -> Query:
        self._skip()
        if self._peek() == "(":
            return self._group(field)
        if field is not None:
            return self._value(field)
        if self._text.startswith("*:*", self._at):
            self._at += 3
            return Everything()
        name = self._word("a field name")
        if name.is_operator:
            self._refuse(f"{name.text} where a clause begins", name.at)
        if self._peek() != ":":
            self._refuse("a term without a field, which would search every field", name.at)
        self._at += 1
        return self._fielded(name)

    def _fielded(self, name: _Word) -> Query:
        """What stands after ``name:``; no blank is taken between the two, though Lucene would."""
        if name.has_wildcards() or "*" in name.text:
            self._refuse("a field name with a wildcard", name.at)
        if name.text == EXISTS:
            field = self._word("a field name after _exists_:")
            if field.has_wildcards() or "*" in field.text:
                self._refuse("a field name with a wildcard", field.at)
            return Exists(field.text, field.at)
        if name.text.startswith("_"):
            self._refuse(f'the metadata field "{name.text}"', name.at)
        if self._peek() == "(":
            return self._group(name.text)
        return self._value(name.text)

    def _group(self, field: str | None) -> Query:
        opened = self._at
        self._at += 1
        query = self._query(field)
        self._skip()
        if self._peek() != ")":
            self._refuse("a parenthesis that is never closed", opened)
        self._at += 1
        return query

    # -- values ----------------------------------------------------------------------------------------

    def _value(self, field: str) -> Query:
        at = self._at
        match self._peek():
            case '"':
                text = self._quoted()
                if not text:
                    self._refuse("an empty text", at)
                return Term(field, text, at)
            case "/":
                return self._regexp(field)
            case "[" | "{":
                return self._range(field)
            case _:
                return self._plain(field)

    def _plain(self, field: str) -> Query:
        word = self._word("a value")
        if word.is_operator:
            self._refuse(f"{word.text} where a value stands", word.at)
        if word.chars[0][0] in "<>":
            return self._comparison(field, word)
        if not word.has_wildcards():
            return Term(field, word.text, word.at)
        if word.text == "*":
            return Exists(field, word.at)
        return Wildcards(field, tuple((c, c in "*?" and not escaped) for c, escaped in word.chars), word.at)

    def _comparison(self, field: str, word: _Word) -> Range:
        operator = next(o for o in _COMPARISONS if word.text.startswith(o))
        value = word.text[len(operator) :]
        if any(escaped for _, escaped in word.chars[:2]) or word.has_wildcards():
            # Elasticsearch looks at the unescaped text: an escaped > compares all the same.
            self._refuse("a comparison with an escape or a wildcard", word.at)
        if not value:
            self._refuse(f"{operator} without a value", word.at)
        includes = operator.endswith("=")
        if operator.startswith(">"):
            return Range(field, value, None, includes, True, word.at)
        return Range(field, None, value, True, includes, word.at)

    def _regexp(self, field: str) -> Regexp:
        r"""Between slashes; a slash after a backslash (even one that is escaped itself) does not end it, as
        the token of ``QueryParser.jj`` is ``"/" (~["/"] | "\\/")* "/"``."""
        start = self._at + 1
        end = start - 1
        while True:
            end = self._text.find("/", end + 1)
            if end < 0:
                self._refuse("a regular expression that is never closed", start - 1)
            if end == start or self._text[end - 1] != "\\":
                break
        if end == start:
            self._refuse("an empty regular expression", start - 1)
        self._at = end + 1
        return Regexp(field, self._text[start:end], start)

    def _range(self, field: str) -> Range:
        start = self._at
        includes_low = self._peek() == "["
        self._at += 1
        low = self._bound()
        self._skip()
        if not self._text.startswith("TO", self._at) or self._text[self._at + 2 : self._at + 3] not in _BLANK:
            self._refuse("a range without TO")
        self._at += 2
        high = self._bound()
        self._skip()
        if self._peek() not in ("]", "}"):
            self._refuse("a range that is never closed", start)
        includes_high = self._peek() == "]"
        self._at += 1
        return Range(field, low, high, includes_low, includes_high, start)

    def _bound(self) -> str | None:
        self._skip()
        if self._peek() == '"':
            return self._quoted()
        start = self._at
        while self._peek() and self._peek() not in _BLANK + "]}":
            self._at += 2 if self._peek() == "\\" else 1
        image = self._text[start : self._at]
        if not image:
            self._refuse("a range without a bound", start)
        return None if image == "*" else self._unescaped(image, start)

    def _quoted(self) -> str:
        start = self._at
        end = start + 1
        while end < len(self._text) and self._text[end] != '"':
            end += 2 if self._text[end] == "\\" else 1
        if end >= len(self._text):
            self._refuse("a quotation mark that is never closed", start)
        self._at = end + 1
        return self._unescaped(self._text[start + 1 : end], start + 1)

    def _unescaped(self, image: str, at: int) -> str:
        out, n = [], 0
        while n < len(image):
            if image[n] == "\\":
                n += 1
                self._escape(image[n : n + 1], at + n)
            out.append(image[n])
            n += 1
        return "".join(out)

    # -- words -----------------------------------------------------------------------------------------

    def _word(self, wanted: str) -> _Word:
        start = self._at
        chars: list[tuple[str, bool]] = []
        while (char := self._peek()) and char not in _BLANK:
            if char == "\\":
                self._at += 1
                self._escape(self._peek(), self._at)
                chars.append((self._peek(), True))
            elif char in "&|":
                self._refuse(f"{char} outside of quotation marks")
            elif char in "*?" or char not in _SPECIAL or (chars and char in "+-"):
                chars.append((char, False))
            else:
                break
            self._at += 1
        if not chars:
            self._unexpected(wanted)
        return _Word(tuple(chars), start)

    def _escape(self, char: str, at: int) -> None:
        if char in ("", "u"):
            self._refuse("a backslash at the end" if not char else "the escape \\u", at - 1)

    def _operator(self, name: str) -> bool:
        """Whether the next word is this operator, which then is taken."""
        self._skip()
        after = self._text[self._at + len(name) : self._at + len(name) + 1]
        ends = after == "" or after in _BLANK or after in _SPECIAL.replace("\\", "").replace("-", "")
        if not self._text.startswith(name, self._at) or not ends or after in ("+", "*", "?"):
            return False
        self._at += len(name)
        return True

    def _skip(self) -> None:
        while self._peek() and self._peek() in _BLANK:
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _unexpected(self, wanted: str = "AND or OR") -> NoReturn:
        found = repr(self._text[self._at : self._at + 12]) if self._peek() else "the end"
        self._refuse(f"{wanted} expected, found {found}")

    def _refuse(self, what: str, at: int | None = None) -> NoReturn:
        refuse(self._text, self._at if at is None else at, what)

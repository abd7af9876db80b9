"""A Lucene query string as SQL over the tables of `document_table`, or over a column for each field.

Each field that a query names is read once: a subquery gives, for every document that has it, whether any of
its values satisfies each clause. A document without the field satisfies none. Sources: Elasticsearch, "Query
string query", "Term", "Range", "Wildcard", "Regexp", "Exists query", and the types' own pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from detection_pack.languages.databases import literal
from detection_pack.languages.lucene.field_values import (
    address,
    lower_bound,
    lowered,
    network,
    queried,
    upper_bound,
)
from detection_pack.languages.lucene.index_mapping import ANALYSED, REALS, TEXTUAL, FieldType, prefixes
from detection_pack.languages.lucene.lucene_nodes import (
    Boolean,
    Everything,
    Exists,
    Query,
    Range,
    Regexp,
    Term,
    UnsupportedLucene,
    Wildcards,
    refuse,
)
from detection_pack.languages.lucene.lucene_parser import parsed
from detection_pack.languages.lucene.lucene_re2 import Inexact, re2, re2_of
from detection_pack.languages.regex.regex_tree import ANY, ANYTHING, Chars, Node, Seq

_NEVER = "false"
_Value = Term | Wildcards | Regexp | Range


@dataclass(frozen=True)
class ValueNames:
    """SQL for a value of a field: as text, as a whole number, as a real one (`field_values.Indexed`)."""

    text: str = "text"
    whole: str = "whole"
    real: str = "real"


@dataclass(frozen=True)
class Column:
    """A field as SQL in one row a document: its value, of the kind that the field's type is kept as, null
    where it has none; a list of them where it has ``several``."""

    sql: str
    several: bool = False


class Translation:
    """``sql`` selects the numbers of the documents that a query string finds.

    ``types`` are those of the indices that are searched, by field. Raises `UnsupportedLucene`, also where
    Elasticsearch, lenient towards a query string, finds nothing by a clause that is not for its field.
    """

    def __init__(self, text: str, types: Mapping[str, FieldType]) -> None:
        self._text = text
        self._types = types
        self._names = ValueNames()
        self._reads: dict[str, list[str]] = {}
        self._aliases: dict[str, str] = {}
        try:
            condition = self._condition(parsed(text))
        except RecursionError as error:
            raise UnsupportedLucene("nested too deeply", 1, 1) from error
        joins = "".join(
            f" LEFT JOIN ({self._read(source, clauses)}) AS {self._aliases[source]} USING (number)"
            for source, clauses in self._reads.items()
        )
        self.sql = f"SELECT documents.number FROM documents{joins} WHERE {condition}"

    @staticmethod
    def _read(source: str, clauses: list[str]) -> str:
        columns = "".join(f", bool_or({clause}) AS c{n}" for n, clause in enumerate(clauses))
        return f"SELECT number{columns} FROM terms WHERE {source} GROUP BY number"

    def _condition(self, query: Query) -> str:
        """True or false for every document, never null."""
        match query:
            case Everything():
                return "true"
            case Exists():
                return self._exists(query)
            case Boolean():
                return self._boolean(query)
            case _:
                return self._fielded(query)

    def _boolean(self, query: Boolean) -> str:
        """Where something is compulsory, what may match does not count; where all is forbidden, the rest of
        the documents match (Elasticsearch, ``Queries.fixNegativeQueryIfNeeded``)."""
        told = [(occur, self._condition(inner)) for occur, inner in query.clauses]
        needed = [sql for occur, sql in told if occur == "must"]
        optional = [sql for occur, sql in told if occur == "should"]
        if optional and not needed:
            needed = [f"({' OR '.join(optional)})"]
        needed += [f"NOT {sql}" for occur, sql in told if occur == "must_not"]
        return f"({' AND '.join(needed)})"

    def _exists(self, query: Exists) -> str:
        """A field exists where it has a value in the index, an object where a field below it does."""
        kind = self._types.get(query.field)
        if kind is not None and kind.name in ANALYSED:
            self._refuse(f'"{query.field}" is analysed text, which is not modelled', query.at)
        is_leaf = self._is_key(query.field) if kind is None else kind.name != "flattened"
        source = _is(query.field) if is_leaf else _below(query.field)
        return f"({self._alias(source)}.number IS NOT NULL)"

    def _is_key(self, field: str) -> bool:
        """Whether ``field`` is a key of a flattened field."""
        above = (self._types.get(path) for path in prefixes(field))
        return any(kind is not None and kind.name == "flattened" for kind in above)

    def _fielded(self, query: _Value) -> str:
        kind = self._types.get(query.field)
        source = _is(query.field)
        if kind is None:
            if not self._is_key(query.field):
                self._checked(query)
                return _NEVER  # a field that no index has
            kind = FieldType("flattened key")
        elif kind.name == "flattened":
            source = _below(query.field)
        clause = self._clause(query, kind)
        alias = self._alias(source)
        clauses = self._reads[source]
        if clause not in clauses:
            clauses.append(clause)
        return f"COALESCE({alias}.c{clauses.index(clause)}, false)"

    def _alias(self, source: str) -> str:
        self._reads.setdefault(source, [])
        return self._aliases.setdefault(source, f"f{len(self._aliases)}")

    # -- clauses: SQL over the columns text, whole and real of one value --------------------------------

    def _checked(self, query: _Value) -> None:
        """An expression is read even where no index has the field: nothing that is not understood passes."""
        if isinstance(query, Regexp):
            self._expression(query, query.pattern)

    def _clause(self, query: _Value, kind: FieldType) -> str:
        if kind.name in ANALYSED:
            return self._words(query, kind)
        match query:
            case Term():
                return self._term(query, kind)
            case Range():
                return self._range(query, kind)
            case Wildcards() | Regexp():
                if kind.name not in TEXTUAL:
                    self._refuse(
                        f'an expression or a wildcard on "{query.field}", which is {kind.name}', query.at
                    )
                if isinstance(query, Regexp):
                    # A normalizer is for the pattern too (``StringFieldType.regexpQuery``).
                    pattern = lowered(query.pattern) if kind.lowercase else query.pattern
                    return self._matches(self._expression(query, pattern))
                return self._matches(re2(_tree(query, kind.lowercase)))

    def _words(self, query: _Value, kind: FieldType) -> str:
        """A clause on analysed text is on one of its words. A query's text is analysed, too: where it is not
        one word, it asks for an order of words, which is not kept. An expression is taken as it is
        (``StringFieldType.regexpQuery``), and words are in lower case."""
        if kind.word is None:
            self._refuse(f'"{query.field}" is analysed text, which is not modelled', query.at)
        match query:
            case Regexp():
                return self._matches(self._expression(query, query.pattern))
            case Term() if re.fullmatch(kind.word, query.text):
                return f"{self._names.text} = {literal(query.text.lower())}"
            case Wildcards() if all(op or re.fullmatch(kind.word, c) for c, op in query.parts):
                return self._matches(re2(_tree(query, True)))
        self._refuse(f'"{query.field}" is kept as words, and this is not about one of them', query.at)

    def _term(self, query: Term, kind: FieldType) -> str:
        if kind.name in (*TEXTUAL, "flattened", "flattened key"):
            return f"{self._names.text} = {literal(lowered(query.text) if kind.lowercase else query.text)}"
        try:
            if kind.name == "ip":
                if "/" in query.text:
                    first, last = network(query.text)
                    return f"{self._names.text} BETWEEN '{first}' AND '{last}'"
                return f"{self._names.text} = '{address(query.text)}'"
            number = queried(kind.name, query.text)
        except ValueError:
            self._refuse(f'"{query.text}" is not a value of "{query.field}", which is {kind.name}', query.at)
        return _NEVER if number is None else f"{self._number_in(kind)} = {_number(number)}"

    def _range(self, query: Range, kind: FieldType) -> str:
        clauses = []
        try:
            for bound, included, said in (
                (query.low, query.includes_low, lower_bound),
                (query.high, query.includes_high, upper_bound),
            ):
                if bound is not None:
                    operator, number = said(kind.name, bound, included)
                    clauses.append(f"{self._number_in(kind)} {operator} {_number(number)}")
        except ValueError:
            self._refuse(f'a range of "{query.field}", which is {kind.name}, with these bounds', query.at)
        if not clauses:
            self._refuse("a range without bounds", query.at)
        return f"({' AND '.join(clauses)})"

    def _expression(self, query: Regexp, pattern: str) -> str:
        try:
            return re2_of(pattern)
        except Inexact as error:
            self._refuse(str(error), query.at + error.at)

    def _matches(self, expression: str) -> str:
        return f"regexp_full_match({self._names.text}, {literal(expression)}, 's')"

    def _number_in(self, kind: FieldType) -> str:
        return self._names.real if kind.name in REALS else self._names.whole

    def _refuse(self, what: str, at: int) -> NoReturn:
        refuse(self._text, at, what)


class ColumnTranslation(Translation):
    """``condition`` says of a row of columns, one for each field that ``column`` gives, whether a query
    string finds its document; ``fields`` are those that it reads. An object's existence is not in one column,
    and is refused."""

    def __init__(self, text: str, types: Mapping[str, FieldType], column: Callable[[str], Column]) -> None:
        self._column = column
        self.fields: dict[str, None] = {}
        self._text, self._types = text, types
        self._names = ValueNames()
        try:
            self.condition = self._condition(parsed(text))
        except RecursionError as error:
            raise UnsupportedLucene("nested too deeply", 1, 1) from error

    def _exists(self, query: Exists) -> str:
        kind = self._types.get(query.field)
        if kind is None or kind.name in (*ANALYSED, "flattened"):
            self._refuse(f'the existence of "{query.field}", which is not one field', query.at)
        self.fields[query.field] = None
        return f"({self._column(query.field).sql} IS NOT NULL)"

    def _fielded(self, query: _Value) -> str:
        kind = self._types.get(query.field)
        if kind is None or kind.name == "flattened":
            self._refuse(f'"{query.field}", which has no column', query.at)
        self.fields[query.field] = None
        held = self._column(query.field)
        value = "one" if held.several else held.sql
        self._names = ValueNames(value, value, value)
        clause = self._clause(query, kind)
        if held.several:
            clause = f"(len(list_filter({held.sql}, lambda one: {clause})) > 0)"
        return f"COALESCE({clause}, false)"


def _tree(query: Wildcards, lowercase: bool) -> Node:
    operators: dict[str, Node] = {"*": ANYTHING, "?": ANY}
    items: list[Node] = []
    for char, is_operator in query.parts:
        code = ord(lowered(char) if lowercase else char)
        items.append(operators[char] if is_operator else Chars(((code, code),)))
    return Seq(tuple(items))


def _is(field: str) -> str:
    return f"field = {literal(field)}"


def _below(field: str) -> str:
    return f"starts_with(field, {literal(field + '.')})"


def _number(number: int | float) -> str:
    if isinstance(number, float):
        return f"{number!r}::DOUBLE"
    return str(max(-(2**64), min(2**64, number)))

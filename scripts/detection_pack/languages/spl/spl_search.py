"""Terms of the `search` command as SQL conditions on events.

Comparisons ignore letter case, ``*`` stands for any text, one of several values is enough, numbers compare
as numbers, and an absent field satisfies neither ``=`` nor ``!=`` while ``NOT`` of either is true (Search
Reference, "search"; Search Manual, "Boolean expressions with logical operators" and "Difference between NOT
and !="). ``earliest`` is inclusive and ``latest`` is not (Search Manual, "Specify time modifiers").
"""

from __future__ import annotations

import re

from lark import Token, Tree

from detection_pack.languages.spl.spl_parser import Source, UnsupportedSpl, search_value
from detection_pack.languages.spl.spl_sql import Node, Relation, as_text, quoted
from detection_pack.languages.spl.spl_times import moment_before

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_TIME_TERMS = ("earliest", "latest")


class SearchTerms:
    """Translates the terms of one `search`; ``now`` is in seconds."""

    def __init__(self, relation: Relation, source: Source, now: float) -> None:
        self.relation, self.source, self.now = relation, source, now
        #: The ``latest`` that the terms state, once they are compiled.
        self.latest: float | None = None

    def compile(self, node: Node) -> str:
        """One SQL condition that is never null. Raises `UnsupportedSpl` with the place."""
        assert isinstance(node, Tree)
        try:
            parts = (
                [c for c in node.children if isinstance(c, Tree)] if node.data == "search_expr" else [node]
            )
            return " AND ".join(self._top(part) for part in parts)
        except UnsupportedSpl as error:
            if error.line or node.meta.empty:
                raise
            raise UnsupportedSpl(error.what, *self.source.line_column(node.meta.start_pos)) from error

    def _top(self, node: Tree[Token]) -> str:
        """A term of the outermost conjunction, where alone a time modifier bounds the whole search."""
        inner = node
        while inner.data == "search_or" and len(inner.children) == 1 and isinstance(inner.children[0], Tree):
            inner = inner.children[0]
        if inner.data == "compared" and _name(inner.children[0]) in _TIME_TERMS:
            return self._time(inner)
        return self._any(node)

    def times(self, node: Tree[Token]) -> set[str]:
        """The time modifiers among the outermost terms."""
        found = set()
        for part in node.children:
            inner = part
            while isinstance(inner, Tree) and inner.data == "search_or" and len(inner.children) == 1:
                inner = inner.children[0]
            if isinstance(inner, Tree) and inner.data == "compared":
                found.add(_name(inner.children[0]))
        return found & set(_TIME_TERMS)

    def _time(self, node: Tree[Token]) -> str:
        name, operator, value = node.children
        text = _text(value)
        bound = self.now if text in ("now", "now()") else None
        if bound is None and text.startswith("-"):
            bound = moment_before(text, self.now)
        if bound is None or str(operator) != "=":
            raise UnsupportedSpl(f"the time modifier {text!r}")
        if _name(name) == "latest":
            self.latest = bound
        return f'"f:_time" {">=" if _name(name) == "earliest" else "<"} {bound!r}'

    def _any(self, node: Tree[Token]) -> str:
        trees = [c for c in node.children if isinstance(c, Tree)]
        match node.data:
            case "search_expr":
                return "(" + " AND ".join(map(self._any, trees)) + ")"
            case "search_or":
                return "(" + " OR ".join(map(self._any, trees)) + ")"
            case "search_negation":
                return f"(NOT {self._any(trees[0])})"
            case "compared":
                return self._compared(trees[0], str(node.children[1]), trees[1])
            case "listed":
                return "(" + " OR ".join(self._compared(trees[0], "=", v) for v in trees[1:]) + ")"
            case "keyword":
                return self._keyword(node)
        raise UnsupportedSpl(str(node.data))

    def _compared(self, name: Tree[Token], operator: str, value: Tree[Token]) -> str:
        if _name(name) in _TIME_TERMS:
            place = self.source.line_column(name.meta.start_pos)
            raise UnsupportedSpl("a time modifier inside a condition", *place)
        field = self.relation.reference(_name(name))
        text = _text(value)
        if field.type in ("one", "str"):
            return f"coalesce({self._single(field.text, operator, text)}, FALSE)"
        found = field.text if field.type == "mv" else f"[CAST({field.text} AS VARCHAR)]"
        if field.type == "num":
            found = f"[spl_text({field.text})]"
        if operator == "!=":
            # What it means for several values is not documented, so one value is asked for.
            single = self._single("v", operator, text)
            return f"coalesce(list_transform([spl_one({found})], lambda v: {single})[1], FALSE)"
        single = self._single("v", operator, text)
        return f"(coalesce(len(list_filter({found}, lambda v: {single})), 0) > 0)"

    @staticmethod
    def _single(value: str, operator: str, text: str) -> str:
        """The comparison of one value, null where it is absent."""
        if operator in ("=", "=="):
            return _equals(text, value)
        if operator == "!=":
            return f"(NOT {_equals(text, value)})"
        if "*" in text:
            raise UnsupportedSpl("a wildcard in an order comparison")
        ordered = f"lower({value}) {operator} lower({quoted(text)})"
        if not _NUMBER.fullmatch(text):
            return ordered
        number = f"TRY_CAST({value} AS DOUBLE)"
        return f"CASE WHEN {number} IS NOT NULL THEN {number} {operator} {float(text)!r} ELSE {ordered} END"

    def _keyword(self, node: Tree[Token]) -> str:
        """``*run*``: a run of letters and digits is within one indexed term, so it is found anywhere."""
        text = search_value(str(node.children[0]))
        if text == "*":
            return "TRUE"
        if not re.fullmatch(r"\*[A-Za-z0-9]+\*", text):
            raise UnsupportedSpl(f"the keyword {text!r}")
        raw = as_text(self.relation.reference("_raw"))
        return f"contains(lower({raw}), {quoted(text[1:-1].lower())})"


def _equals(text: str, value: str) -> str:
    if "*" in text:
        pattern = "".join("%" if c == "*" else f"\\{c}" if c in "%_\\" else c for c in text)
        return f"(lower({value}) LIKE lower({quoted(pattern)}) ESCAPE '\\')"
    equal = f"(lower({value}) = lower({quoted(text)}))"
    if _NUMBER.fullmatch(text):
        return f"({equal} OR coalesce(TRY_CAST({value} AS DOUBLE) = {float(text)!r}, FALSE))"
    return equal


def _name(node: Node) -> str:
    assert isinstance(node, Tree)
    return search_value(str(node.children[0]))


def _text(node: Node) -> str:
    assert isinstance(node, Tree)
    return search_value(str(node.children[0]))

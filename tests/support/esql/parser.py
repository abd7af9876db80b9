"""A query's commands, by a Pratt parser of its expressions.

Source: commands/source-commands, commands/processing-commands, functions-operators/operators, esql-syntax;
the order in which operators bind is that of Elasticsearch's grammar (EsqlBaseParser.g4): ``-x``, then
``* / %``, ``+ -``, one comparison or IN, LIKE, RLIKE, IS NULL, then NOT, AND, OR. A comparison of a
comparison needs parentheses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from support.esql.errors import Refused
from support.esql.lexer import Lexer, Mode, Token
from support.esql.syntax import (
    Assignment,
    Binary,
    Call,
    Command,
    Eval,
    Expression,
    From,
    In,
    IsNull,
    Like,
    Limit,
    Literal,
    MvExpand,
    Name,
    Order,
    Project,
    Rename,
    Sort,
    Star,
    Stats,
    Timespan,
    Unary,
    Where,
)

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2}
_UNARY_BINDING = 3

T = TypeVar("T")


def parse(text: str) -> tuple[list[Command], Lexer]:
    """The commands of ``text``, and the lexer that knows its positions. Raises `Refused`."""
    return _Parser(text).query()


class _Parser:
    def __init__(self, text: str) -> None:
        self.lexer = Lexer(text)

    # -- commands --------------------------------------------------------------------------------------

    def query(self) -> tuple[list[Command], Lexer]:
        commands: list[Command] = [self._command(first=True)]
        while (token := self.lexer.peek()).kind != "end":
            if not token.is_op("|"):
                raise self._unexpected(token, "a | or the end of the query")
            self.lexer.take()
            commands.append(self._command(first=False))
        return commands, self.lexer

    def _command(self, first: bool) -> Command:
        token = self.lexer.take()
        known: dict[str, Callable[[int], Command]] = {"from": self._from} if first else self._processing()
        found = known.get(token.text.lower())
        if found is None or token.kind not in ("name", "keyword"):
            raise self._unexpected(token, "a command that is modelled")
        return found(token.start)

    def _processing(self) -> dict[str, Callable[[int], Command]]:
        return {
            "where": lambda at: Where(at, self._expression()),
            "eval": lambda at: Eval(at, self._listed(self._assignment)),
            "stats": self._stats,
            "keep": lambda at: Project(at, "keep", self._listed(lambda: self._column("project"), "project")),
            "drop": lambda at: Project(at, "drop", self._listed(lambda: self._column("project"), "project")),
            "rename": lambda at: Rename(at, self._listed(self._renaming, "project")),
            "sort": lambda at: Sort(at, self._listed(self._order)),
            "limit": self._limit,
            "mv_expand": lambda at: MvExpand(at, self._column("expression")),
        }

    def _listed(self, one: Callable[[], T], mode: Mode = "expression") -> tuple[T, ...]:
        found = [one()]
        while self.lexer.peek(mode).is_op(","):
            self.lexer.take(mode)
            found.append(one())
        return tuple(found)

    def _from(self, at: int) -> From:
        def pattern() -> str:
            token = self.lexer.take("from")
            if token.kind not in ("source", "string"):
                raise self._unexpected(token, "an index pattern")
            if not str(token.value) or any(c in str(token.value) for c in "<>:"):
                raise self.lexer.refused(token.start, "date math and remote clusters are not modelled")
            return str(token.value)

        patterns = self._listed(pattern, "from")
        metadata: tuple[Name, ...] = ()
        if self.lexer.peek("from").text.lower() == "metadata":
            self.lexer.take("from")
            metadata = self._listed(lambda: self._column("expression"))
        return From(at, patterns, metadata)

    def _stats(self, at: int) -> Stats:
        aggregates: tuple[Assignment, ...] = ()
        if not self.lexer.peek().is_word("by"):
            aggregates = self._listed(self._aggregate)
        by: tuple[Assignment, ...] = ()
        if self.lexer.peek().is_word("by"):
            self.lexer.take()
            by = self._listed(self._assignment)
        return Stats(at, aggregates, by)

    def _aggregate(self) -> Assignment:
        found = self._assignment()
        if not self.lexer.peek().is_word("where"):
            return found
        self.lexer.take()
        return Assignment(found.at, found.name, found.expression, self._expression())

    def _renaming(self) -> tuple[Name, Name]:
        first = self._column("project")
        if self.lexer.peek().is_op("="):
            self.lexer.take()
            return self._column("project"), first
        if not (token := self.lexer.take()).is_word("as"):
            raise self._unexpected(token, "AS")
        return first, self._column("project")

    def _order(self) -> Order:
        expression = self._expression()
        descending = nulls_first = False
        if self.lexer.peek().is_word("asc", "desc"):
            nulls_first = descending = self.lexer.take().is_word("desc")
        if self.lexer.peek().is_word("nulls"):
            self.lexer.take()
            token = self.lexer.take()
            if not token.is_word("first", "last"):
                raise self._unexpected(token, "FIRST or LAST")
            nulls_first = token.is_word("first")
        return Order(expression, descending, nulls_first)

    def _limit(self, at: int) -> Limit:
        token = self.lexer.take()
        if token.kind != "integer":
            raise self._unexpected(token, "a whole number")
        return Limit(at, int(token.value))

    def _assignment(self) -> Assignment:
        at = self.lexer.peek().start
        expression = self._expression()
        if self.lexer.peek().is_op("="):
            token = self.lexer.take()
            if not isinstance(expression, Name):
                raise self._unexpected(token, "a column's name before =")
            return Assignment(at, expression.name, self._expression())
        if isinstance(expression, Name):
            return Assignment(at, expression.name, expression)
        return Assignment(at, self.lexer.text[at : self.lexer.at], expression)

    def _column(self, mode: Mode) -> Name:
        """A name of parts with dots between them."""
        first = self.lexer.take(mode)
        parts = [self._part(first)]
        while self.lexer.peek(mode).is_op("."):
            self.lexer.take(mode)
            parts.append(self._part(self.lexer.take(mode)))
        return Name(first.start, ".".join(parts))

    def _part(self, token: Token) -> str:
        if token.kind not in ("name", "quoted"):
            raise self._unexpected(token, "a name")
        if token.kind == "name" and "*" in token.text:
            raise self.lexer.refused(token.start, "wildcards in a list of columns are not modelled")
        return str(token.value)

    # -- expressions -----------------------------------------------------------------------------------

    def _expression(self) -> Expression:
        left = self._conjunction()
        while self.lexer.peek().is_word("or"):
            at = self.lexer.take().start
            left = Binary(at, "or", left, self._conjunction())
        return left

    def _conjunction(self) -> Expression:
        left = self._negation()
        while self.lexer.peek().is_word("and"):
            at = self.lexer.take().start
            left = Binary(at, "and", left, self._negation())
        return left

    def _negation(self) -> Expression:
        if self.lexer.peek().is_word("not"):
            return Unary(self.lexer.take().start, "not", self._negation())
        return self._predicate()

    def _predicate(self) -> Expression:
        left = self._arithmetic(0)
        token = self.lexer.peek()
        if token.is_op(*_COMPARISONS):
            self.lexer.take()
            return Binary(left.at, token.text, left, self._arithmetic(0))
        if token.is_word("is"):
            return self._is_null(left)
        negated = token.is_word("not")
        if negated:
            self.lexer.take()
        token = self.lexer.peek()
        if token.is_word("in"):
            found: Expression = In(left.at, left, self._parenthesised())
        elif token.is_word("like", "rlike"):
            found = self._like(left)
        elif negated:
            raise self._unexpected(token, "IN, LIKE or RLIKE after NOT")
        else:
            return left
        return Unary(left.at, "not", found) if negated else found

    def _is_null(self, value: Expression) -> Expression:
        self.lexer.take()
        negated = self.lexer.peek().is_word("not")
        if negated:
            self.lexer.take()
        if not (token := self.lexer.take()).is_word("null"):
            raise self._unexpected(token, "NULL")
        found = IsNull(value.at, value)
        return Unary(value.at, "not", found) if negated else found

    def _parenthesised(self) -> tuple[Expression, ...]:
        """``IN`` or a pattern operator has been seen: it, and its list."""
        self.lexer.take()
        self._expect("(")
        found = self._listed(lambda: self._arithmetic(0))
        self._expect(")")
        return found

    def _like(self, value: Expression) -> Like:
        op = self.lexer.take().text.lower()
        if self.lexer.peek().is_op("("):
            self._expect("(")
            listed = self._listed(lambda: self._arithmetic(0))
            self._expect(")")
        else:
            listed = (self._arithmetic(_UNARY_BINDING),)
        patterns = []
        for pattern in listed:
            if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
                raise self.lexer.refused(pattern.at, f"{op.upper()} takes string literals")
            patterns.append(pattern)
        return Like(value.at, op, value, tuple(patterns))

    def _arithmetic(self, least: int) -> Expression:
        """Pratt: operands bound at least as tightly as ``least``."""
        token = self.lexer.peek()
        left: Expression
        if token.is_op("-"):
            self.lexer.take()
            left = Unary(token.start, "-", self._arithmetic(_UNARY_BINDING))
        else:
            left = self._primary()
        while (token := self.lexer.peek()).kind == "op" and _BINDING.get(token.text, -1) > least:
            self.lexer.take()
            left = Binary(token.start, token.text, left, self._arithmetic(_BINDING[token.text]))
        return left

    def _primary(self) -> Expression:
        token = self.lexer.peek()
        if token.is_op("("):
            self.lexer.take()
            inner = self._expression()
            self._expect(")")
            return inner
        if token.is_op("["):
            return self._list()
        if token.kind in ("string", "decimal"):
            return Literal(self.lexer.take().start, token.value)
        if token.kind == "integer":
            self.lexer.take()
            following = self.lexer.peek()
            if following.kind == "name":
                return Timespan(token.start, int(token.value), self.lexer.take().text.lower())
            return Literal(token.start, token.value)
        if token.is_word("true", "false", "null"):
            word = self.lexer.take().text.lower()
            return Literal(token.start, {"true": True, "false": False, "null": None}[word])
        name = self._column("expression")
        if token.kind == "name" and "." not in name.name and self.lexer.peek().is_op("("):
            return self._call(name)
        return name

    def _call(self, name: Name) -> Call:
        self._expect("(")
        args: list[Expression] = []
        if self.lexer.peek().is_op("*"):
            args.append(Star(self.lexer.take().start))
        elif not self.lexer.peek().is_op(")"):
            args += self._listed(self._expression)
        self._expect(")")
        return Call(name.at, name.name.upper(), tuple(args))

    def _list(self) -> Literal:
        at = self.lexer.take().start
        values = []
        for item in self._listed(lambda: self._arithmetic(_UNARY_BINDING)):
            if not isinstance(item, Literal):
                raise self.lexer.refused(at, "a list is modelled with literals without a sign")
            values.append(item.value)
        self._expect("]")
        if len({type(value) for value in values}) != 1 or values[0] is None:
            raise self.lexer.refused(at, "a list holds literals of one type")
        return Literal(at, tuple(values))

    def _expect(self, text: str) -> None:
        token = self.lexer.take()
        if not token.is_op(text):
            raise self._unexpected(token, text)

    def _unexpected(self, token: Token, wanted: str) -> Refused:
        found = f'"{token.text}"' if token.kind != "end" else "the end of the query"
        return self.lexer.refused(token.start, f"{found} where {wanted} is expected")

"""ES|QL to DuckDB SQL: exactly the commands and functions that the pack emits, or `UnsupportedEsql`.

ES|QL's semantics, from its reference: null in a comparison gives null, WHERE keeps what is true, ``==`` and
RLIKE see letter case, RLIKE is an anchored Lucene expression, STATS keeps the group of null, aggregates
leave null out, ``DATE_TRUNC`` counts from the epoch in UTC, a date is a number of milliseconds from there,
MV_EXPAND gives a row for each number of a list. A field with several values is null where it is
compared; elsewhere it is not modelled, and so refused, as are the approximations of PERCENTILE and MEDIAN.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NoReturn

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from detection_pack.languages.esql.esql_literals import sql_string, string_of
from detection_pack.languages.lucene.lucene_re2 import Inexact, re2, tree

_HERE = Path(__file__).parent
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_NUMERIC = ("long", "double")
_ORDERED = (*_NUMERIC, "date")


class UnsupportedEsql(Exception):
    """ES|QL that is not translated; ``line`` and ``column`` count from 1."""

    def __init__(self, what: str, line: int, column: int) -> None:
        super().__init__(f"unsupported ES|QL at {line}:{column}: {what}")
        self.line = line
        self.column = column


class Translation:
    """A query as SQL over the table ``esql_source(index_name, document)`` and the types of its columns. It
    wants the macros of `esql_literals.LOWER_MACRO`.

    ``now`` is the time of the query, SQL for a timestamp. ``types`` are the mapping's types by field,
    ``addresses`` every address that a document holds, ``several``
    the fields that hold more than one value in a document: compared, such a value is null. With ``columns``,
    the table has instead of ``document`` a column of each field: SQL for it by name, text, null for several.
    """

    def __init__(
        self,
        text: str,
        types: Mapping[str, str],
        addresses: Iterable[str],
        several: Iterable[str] = (),
        columns: Callable[[str], str] | None = None,
        now: str | None = None,
    ) -> None:
        self._now = now
        self._addresses = sorted(set(addresses))
        self._several = set(several)
        self._held = columns
        self._compared = 0
        self.columns: dict[str, str] = {}
        tree = _parse(text)
        source, *commands = (child for child in tree.children if isinstance(child, Tree))
        self.indices = tuple(str(token) for token in source.children)
        made = _assigned(tree) - set(types)
        self.columns = {n: _kind(types.get(n, "keyword")) for n in _fields(tree) if n not in made}
        self.sql = f"SELECT {', '.join(self._source(n) for n in self.columns) or 'NULL'} FROM esql_source"
        for command in commands:
            getattr(self, f"_{command.data}")(command)

    def _source(self, name: str) -> str:
        path = "'$.\"" + name.replace("'", "''") + "\"'"
        value = f"json_extract_string(document, {path})" if self._held is None else self._held(name)
        if name in self._several and self._held is None:
            value = f"CASE WHEN json_type(document, {path}) <> 'ARRAY' THEN {value} END"
        cast = {"long": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN"}.get(self.columns[name])
        if self.columns[name] == "date":
            value = f"TRY_CAST(replace({value}, 'Z', '') AS TIMESTAMP)"
        elif cast:
            value = f"TRY_CAST({value} AS {cast})"
        return f"{value} AS {_quoted(name)}"

    # -- commands --------------------------------------------------------------------------------------

    def _where(self, command: Any) -> None:
        condition, kind = self._expression(command.children[0])
        _expect(kind, ("boolean",), command)
        self.sql = f"SELECT * FROM ({self.sql}) WHERE {condition}"

    def _eval(self, command: Any) -> None:
        for assignment in command.children:
            name = _field_name(assignment.children[0])
            value, kind = self._expression(assignment.children[1])
            if name in self.columns:
                self.sql = f"SELECT * REPLACE ({value} AS {_quoted(name)}) FROM ({self.sql})"
            else:
                self.sql = f"SELECT *, {value} AS {_quoted(name)} FROM ({self.sql})"
            self.columns[name] = kind
            self._several.discard(name)

    def _stats(self, command: Any) -> None:
        nodes = [child for child in command.children if child is not None]
        groups = [_field_name(node) for node in nodes if node.data == "field"]
        self._known(groups, command)
        for name in self._several.intersection(groups):
            _refuse(f'groups of "{name}", which has several values,', command)
        columns = {name: self.columns[name] for name in groups}
        selected = [_quoted(name) for name in groups]
        for assignment in (node for node in nodes if node.data == "assignment"):
            name = _field_name(assignment.children[0])
            value, kind = self._aggregate(assignment.children[1])
            if name in columns:
                _refuse(f'"{name}" is assigned twice', assignment)
            columns[name] = kind
            selected.append(f"{value} AS {_quoted(name)}")
        grouping = f" GROUP BY {', '.join(map(_quoted, groups))}" if groups else ""
        self.sql = f"SELECT {', '.join(selected)} FROM ({self.sql}){grouping}"
        self.columns = columns

    def _keep(self, command: Any) -> None:
        names = [_field_name(node) for node in command.children]
        self._known(names, command)
        self.sql = f"SELECT {', '.join(map(_quoted, names))} FROM ({self.sql})"
        self.columns = {name: self.columns[name] for name in names}

    def _sort(self, command: Any) -> None:
        name = _field_name(command.children[0])
        self._known([name], command)
        descending = command.children[1] is not None and str(command.children[1]).upper() == "DESC"
        order = "DESC NULLS FIRST" if descending else "ASC NULLS LAST"
        self.sql = f"SELECT * FROM ({self.sql}) ORDER BY {_quoted(name)} {order}"

    def _mv_expand(self, command: Any) -> None:
        name = _field_name(command.children[0])
        self._known([name], command)
        _expect(self.columns[name], ("longs",), command)
        column = _quoted(name)
        self.sql = f"SELECT * REPLACE (unnest({column}) AS {column}) FROM ({self.sql})"
        self.columns[name] = "long"

    def _known(self, names: Iterable[str], node: Any) -> None:
        for name in names:
            if name not in self.columns:
                _refuse(f'unknown column "{name}"', node)

    # -- expressions: each returns (SQL, type) ---------------------------------------------------------

    def _expression(self, node: Any) -> tuple[str, str]:
        method: Callable[[Any], tuple[str, str]] | None = getattr(self, f"_x_{node.data.rstrip('_')}", None)
        if method is None:
            _refuse(str(node.data), node)
        return method(node)

    def _x_disjunction(self, node: Any) -> tuple[str, str]:
        return self._logic(node, " OR ")

    def _x_conjunction(self, node: Any) -> tuple[str, str]:
        return self._logic(node, " AND ")

    def _logic(self, node: Any, operator: str) -> tuple[str, str]:
        parts = [self._expression(child) for child in node.children]
        for _, kind in parts:
            _expect(kind, ("boolean", "null"), node)
        return f"({operator.join(sql for sql, _ in parts)})", "boolean"

    def _x_not(self, node: Any) -> tuple[str, str]:
        value, kind = self._expression(node.children[0])
        _expect(kind, ("boolean", "null"), node)
        return f"(NOT {value})", "boolean"

    def _x_compare(self, node: Any) -> tuple[str, str]:
        left, operator, right = node.children
        (a, kind_a), (b, kind_b) = self._operand(left), self._operand(right)
        self._comparable(kind_a, kind_b, node)
        if str(operator) not in ("==", "!=") and not {kind_a, kind_b} <= {*_ORDERED, "null"}:
            _refuse(f"{operator} on {kind_a}", node)
        return f"({a} {'=' if str(operator) == '==' else operator} {b})", "boolean"

    def _x_in(self, node: Any) -> tuple[str, str]:
        value, kind = self._operand(node.children[0])
        listed = [self._operand(child) for child in node.children[1:]]
        for _, other in listed:
            self._comparable(kind, other, node)
        return f"({value} IN ({', '.join(sql for sql, _ in listed)}))", "boolean"

    def _x_rlike(self, node: Any) -> tuple[str, str]:
        value, kind = self._operand(node.children[0])
        _expect(kind, ("text",), node)
        try:
            pattern = re2(tree(string_of(node.children[1])))
        except Inexact as error:
            _refuse(f"{error} in RLIKE", node)
        return f"regexp_full_match({value}, {sql_string(pattern)}, 's')", "boolean"

    def _x_is_null(self, node: Any) -> tuple[str, str]:
        return f"({self._expression(node.children[0])[0]} IS NULL)", "boolean"

    def _x_is_not_null(self, node: Any) -> tuple[str, str]:
        return f"({self._expression(node.children[0])[0]} IS NOT NULL)", "boolean"

    def _x_sum(self, node: Any) -> tuple[str, str]:
        parts = [self._expression(child) for child in node.children]
        for _, kind in parts:
            _expect(kind, _NUMERIC, node)
        kind = "double" if any(kind == "double" for _, kind in parts) else "long"
        return f"({' + '.join(sql for sql, _ in parts)})", kind

    def _x_difference(self, node: Any) -> tuple[str, str]:
        """Of two whole numbers, or of a date and a span."""
        first, second = node.children
        value, kind = self._expression(first)
        if kind == "date" and second.data == "span":
            return f"({value} - to_microseconds({_micros(second)}))", "date"
        other, of = self._expression(second)
        for one in (kind, of):
            _expect(one, ("long",), node)
        return f"({value} - {other})", "long"

    def _x_numbers(self, node: Any) -> tuple[str, str]:
        return f"[{', '.join(f'CAST({child} AS BIGINT)' for child in node.children)}]", "longs"

    def _x_field(self, node: Any) -> tuple[str, str]:
        name = _field_name(node)
        self._known([name], node)
        if name in self._several and not self._compared:
            _refuse(f'"{name}" with several values, but in a comparison,', node)
        return _quoted(name), self.columns[name]

    def _operand(self, node: Any) -> tuple[str, str]:
        """A part of a comparison, which is null where a field has several values."""
        self._compared += 1
        try:
            return self._expression(node)
        finally:
            self._compared -= 1

    def _x_number(self, node: Any) -> tuple[str, str]:
        text = str(node.children[0])
        return text, "double" if "." in text else "long"

    def _x_text(self, node: Any) -> tuple[str, str]:
        return sql_string(string_of(node.children[0])), "text"

    def _x_boolean(self, node: Any) -> tuple[str, str]:
        return str(node.children[0]).lower(), "boolean"

    def _x_null(self, node: Any) -> tuple[str, str]:
        return "NULL", "null"

    def _x_call(self, node: Any) -> tuple[str, str]:
        name = str(node.children[0]).upper()
        arguments = [child for child in node.children[1:] if child is not None]
        if name == "DATE_TRUNC":
            return self._date_trunc(arguments, node)
        values = [self._expression(argument) for argument in arguments]
        texts, kinds = [sql for sql, _ in values], [kind for _, kind in values]
        match name, kinds:
            case "TO_LOWER", ["text"]:
                return f"java_lower({texts[0]})", "text"
            case "TO_LONG", ["date"]:
                return f"epoch_ms({texts[0]})", "long"
            case "TO_DATETIME", ["long"]:
                return f"make_timestamp({texts[0]} * 1000)", "date"
            case "NOW", [] if self._now is not None:
                return self._now, "date"
            case "TO_STRING", [kind]:
                return self._to_string(texts[0], kind, node)
            case "COALESCE", [first, *rest]:
                for other in rest:
                    self._comparable(first, other, node)
                return f"COALESCE({', '.join(texts)})", next((k for k in kinds if k != "null"), "null")
            case "CONCAT", [_, _, *_]:
                for kind in kinds:
                    _expect(kind, ("text",), node)
                return f"({' || '.join(texts)})", "text"
            case "CASE", ["boolean", first, second]:
                self._comparable(first, second, node)
                return f"(CASE WHEN {texts[0]} THEN {texts[1]} ELSE {texts[2]} END)", first
            case "MV_SORT", ["texts"]:
                return f"list_sort({texts[0]})", "texts"
            case "MV_CONCAT", ["texts", "text"]:
                return f"array_to_string({texts[0]}, {texts[1]})", "text"
            case "CIDR_MATCH", ["ip", *networks] if networks and set(networks) == {"text"}:
                return self._cidr_match(texts[0], [string_of(a.children[0]) for a in arguments[1:]])
        _refuse(f"{name}({', '.join(kinds)})", node)

    def _to_string(self, value: str, kind: str, node: Any) -> tuple[str, str]:
        if kind in ("text", "ip"):
            return value, "text"
        if kind in ("long", "boolean"):
            return f"CAST({value} AS VARCHAR)", "text"
        if kind == "date":
            return f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%gZ')", "text"
        _refuse(f"TO_STRING({kind})", node)

    def _date_trunc(self, arguments: list[Any], node: Any) -> tuple[str, str]:
        if len(arguments) != 2 or arguments[0].data != "span":
            _refuse("DATE_TRUNC without a span", node)
        count, unit = arguments[0].children
        if (int(count), str(unit).lower().rstrip("s")) == (7, "day"):
            _refuse("7 days, which Elasticsearch takes for a week of the calendar,", node)
        micros = _micros(arguments[0])
        value, kind = self._expression(arguments[1])
        _expect(kind, ("date",), node)
        if micros <= 0:
            _refuse("a span that is not positive", node)
        return f"make_timestamp((epoch_us({value}) // {micros}) * {micros})", "date"

    def _cidr_match(self, value: str, networks: list[str]) -> tuple[str, str]:
        """Elasticsearch keeps IPv4 mapped into IPv6: ``::/0`` holds every address of both."""
        nets = [_mapped(network) for network in networks]
        inside = [a for a in self._addresses if any(_mapped(a).subnet_of(net) for net in nets)]
        listed = ", ".join(map(sql_string, inside)) or "NULL"
        return f"(CASE WHEN {value} IS NOT NULL THEN COALESCE({value} IN ({listed}), false) END)", "boolean"

    def _aggregate(self, node: Any) -> tuple[str, str]:
        if node.data != "call":
            _refuse("STATS without an aggregate", node)
        name = str(node.children[0]).upper()
        arguments = [child for child in node.children[1:] if child is not None]
        if name == "COUNT" and len(arguments) == 1 and arguments[0].data == "star":
            return "COUNT(*)", "long"
        if len(arguments) != 1:
            _refuse(f"{name} with {len(arguments)} arguments", node)
        value, kind = self._expression(arguments[0])
        match name:
            case "COUNT_DISTINCT" if kind in ("text", "ip", "boolean", *_ORDERED):
                return f"COUNT(DISTINCT {value})", "long"
            case "MIN" | "MAX" if kind in _ORDERED:
                return f"{name}({value})", kind
            case "SUM" if kind in _NUMERIC:
                return f"CAST(SUM({value}) AS {'BIGINT' if kind == 'long' else 'DOUBLE'})", kind
            case "AVG" if kind in _NUMERIC:
                return f"AVG({value})", "double"
            case "VALUES" if kind == "texts":
                return f"nullif(list_distinct(flatten(list({value}))), [])", "texts"
            case "VALUES" if kind == "text":
                return f"nullif(list(DISTINCT {value}) FILTER ({value} IS NOT NULL), [])", "texts"
        _refuse(f"{name}({kind})", node)

    @staticmethod
    def _comparable(a: str, b: str, node: Any) -> None:
        if a != b and "null" not in (a, b) and not {a, b} <= set(_NUMERIC):
            _refuse(f"{a} against {b}", node)


@cache
def _parser() -> Lark:
    grammar = (_HERE / "esql.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


@lru_cache(maxsize=256)
def _parse(text: str) -> Tree[Token]:
    """The tree of a query, which nobody changes: a rule's runs follow one another with the same text."""
    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        found = (
            error.get_context(text, 12).split("\n")[0].strip() if error.pos_in_stream is not None else "end"
        )
        raise UnsupportedEsql(f"not understood near {found!r}", error.line, error.column) from error


def _mapped(text: str) -> ipaddress.IPv6Network:
    """An address or a network as one of IPv6."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        return network
    return ipaddress.IPv6Network(f"::ffff:{network.network_address}/{96 + network.prefixlen}")


def _kind(mapped: str) -> str:
    return {"keyword": "text", "wildcard": "text", "text": "text", "float": "double"}.get(mapped, mapped)


def fields_read(text: str, types: Iterable[str]) -> list[str]:
    """The fields of documents that a query reads. Raises `UnsupportedEsql`."""
    tree = _parse(text)
    made = _assigned(tree) - set(types)
    return [name for name in _fields(tree) if name not in made]


def _fields(tree: Any) -> list[str]:
    return list(dict.fromkeys(_field_name(node) for node in tree.find_data("field")))


def _assigned(tree: Any) -> set[str]:
    return {_field_name(node.children[0]) for node in tree.find_data("assignment")}


def _field_name(node: Any) -> str:
    return re.sub(r"`((?:[^`]|``)+)`", lambda m: m[1].replace("``", "`"), str(node.children[0]))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _micros(span: Any) -> int:
    count, unit = span.children
    return int(count) * _SECONDS[str(unit).lower().rstrip("s")] * 1_000_000


def _expect(kind: str, allowed: Iterable[str], node: Any) -> None:
    if kind not in allowed:
        _refuse(f"a value of type {kind} here", node)


def _refuse(what: str, node: Any) -> NoReturn:
    meta = node.meta
    raise UnsupportedEsql(what, getattr(meta, "line", 1), getattr(meta, "column", 1))

"""Expressions of SPL as DuckDB SQL: what `eval` and `where` compute.

Types are known before the query runs. "mv" is a field of an event, a list of texts that is null when the
field is absent; a function that takes one value refuses a list of several at run time. A comparison with
null is null, and `where` keeps only what is true (Search Reference, "where").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from urllib.parse import unquote

from lark import Token, Tree

from detection_pack.languages.spl.spl_parser import Source, UnsupportedSpl, string_value
from detection_pack.languages.spl.spl_regex import to_re2

#: Helper functions of every connection that runs translated SPL.
SQL_MACROS = r"""
CREATE OR REPLACE MACRO spl_one(v) AS
    CASE WHEN len(v) > 1 THEN error('unsupported SPL: a field holds several values where one is expected')
         ELSE v[1] END;
CREATE OR REPLACE MACRO spl_text(n) AS
    CASE WHEN n = trunc(n) AND abs(n) < 1e15 THEN CAST(CAST(n AS BIGINT) AS VARCHAR)
         ELSE CAST(n AS VARCHAR) END;
CREATE OR REPLACE MACRO spl_ipv4(s) AS
    CASE WHEN regexp_full_match(s, '(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)')
         THEN list_sum(list_transform(string_split(s, '.'), lambda p, i: CAST(p AS BIGINT) << (8 * (4 - i))))
    END;
CREATE OR REPLACE MACRO spl_ipv6_groups(s) AS
    CASE WHEN NOT contains(s, '::') THEN string_split(s, ':')
         ELSE list_concat(
            list_filter(string_split(split_part(s, '::', 1), ':'), lambda p: p <> ''),
            list_transform(
                range(8 - len(list_filter(string_split(replace(s, '::', ':'), ':'), lambda p: p <> ''))),
                lambda p: '0'),
            list_filter(string_split(split_part(s, '::', 2), ':'), lambda p: p <> '')) END;
CREATE OR REPLACE MACRO spl_ipv6(s) AS
    CASE WHEN regexp_full_match(s, '[0-9a-fA-F:]+') AND contains(s, ':') AND NOT contains(s, ':::')
              AND len(string_split(s, '::')) <= 2 AND len(string_split(s, ':')) <= 9
              AND len(spl_ipv6_groups(s)) = 8
              AND len(list_filter(spl_ipv6_groups(s), lambda p: p = '' OR length(p) > 4)) = 0
         THEN lower(array_to_string(list_transform(spl_ipv6_groups(s), lambda p: lpad(p, 4, '0')), '')) END;
"""

Node = Tree[Token] | Token


@dataclass(frozen=True)
class Sql:
    """An SQL expression and its type: str, num, bool, mv or null."""

    text: str
    type: str


@dataclass(frozen=True)
class Relation:
    """A step of the pipeline: the name of its SQL relation, its columns by field, and whether a field that
    is no column is still looked up in the event."""

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    open: bool = True

    def reference(self, name: str) -> Sql:
        """The value of a field; an unknown field is null (field names are case-sensitive)."""
        if name in self.columns:
            return Sql(column(name), self.columns[name])
        if self.open:
            return Sql(f"__fields[{quoted(name)}]", "mv")
        return Sql("NULL", "null")


def column(name: str) -> str:
    """The SQL column of a field."""
    return '"f:' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    """An SQL string."""
    if "\0" in text:
        raise UnsupportedSpl("a NUL character")
    return "'" + text.replace("'", "''") + "'"


def as_text(sql: Sql) -> str:
    if sql.type == "mv":
        return f"spl_one({sql.text})"
    if sql.type == "num":
        return f"spl_text({sql.text})"
    if sql.type == "null":
        return "CAST(NULL AS VARCHAR)"
    if sql.type == "bool":
        raise UnsupportedSpl("a truth value where text is expected")
    return sql.text


def as_number(sql: Sql) -> str:
    if sql.type == "num":
        return sql.text
    if sql.type == "null":
        return "CAST(NULL AS DOUBLE)"
    raise UnsupportedSpl("text where a number is expected")


def as_bool(sql: Sql) -> str:
    if sql.type != "bool":
        raise UnsupportedSpl("a value where a truth value is expected")
    return sql.text


class Expressions:
    """Translates the expressions of one pipeline step."""

    def __init__(self, relation: Relation, source: Source) -> None:
        self.relation, self.source = relation, source
        self.bound: dict[str, Sql] = {}

    def compile(self, node: Node) -> Sql:
        """The SQL of an expression. Raises `UnsupportedSpl` with its place."""
        assert isinstance(node, Tree)
        try:
            result = getattr(self, f"_{node.data}")(*node.children)
            assert isinstance(result, Sql)
            return result
        except UnsupportedSpl as error:
            if error.line or node.meta.empty:
                raise
            raise UnsupportedSpl(error.what, *self.source.line_column(node.meta.start_pos)) from error

    def _either(self, *parts: Node) -> Sql:
        return self._joined_by(" OR ", [p for p in parts if not isinstance(p, Token)])

    def _all_of(self, *parts: Node) -> Sql:
        return self._joined_by(" AND ", [p for p in parts if not isinstance(p, Token)])

    def _joined_by(self, operator: str, parts: list[Tree[Token]]) -> Sql:
        if len(parts) == 1:
            return self.compile(parts[0])
        return Sql("(" + operator.join(as_bool(self.compile(p)) for p in parts) + ")", "bool")

    def _negation(self, _not: Token, part: Node) -> Sql:
        return Sql(f"(NOT {as_bool(self.compile(part))})", "bool")

    def _comparing(self, left: Node, operator: Token, right: Node) -> Sql:
        """Numbers compare as numbers, text as text, case-sensitively (Search Reference, "where")."""
        a, b = self.compile(left), self.compile(right)
        op = {"==": "=", "!=": "<>"}.get(str(operator), str(operator))
        if "bool" in (a.type, b.type):
            raise UnsupportedSpl("a comparison of truth values")
        if a.type == b.type == "num":
            return Sql(f"({a.text} {op} {b.text})", "bool")
        if "num" in (a.type, b.type):
            raise UnsupportedSpl("a comparison of a number with text; use tonumber")
        x, y = as_text(a), as_text(b)
        if a.type == b.type == "mv":
            # Two fields that both look like numbers compare as numbers.
            n, m = f"TRY_CAST({x} AS DOUBLE)", f"TRY_CAST({y} AS DOUBLE)"
            return Sql(
                f"(CASE WHEN {n} IS NOT NULL AND {m} IS NOT NULL THEN {n} {op} {m} ELSE {x} {op} {y} END)",
                "bool",
            )
        return Sql(f"({x} {op} {y})", "bool")

    def _joined(self, *parts: Node) -> Sql:
        if len(parts) == 1:
            return self.compile(parts[0])
        return Sql("(" + " || ".join(as_text(self.compile(p)) for p in parts) + ")", "str")

    def _minus(self, _minus: Token, part: Node) -> Sql:
        return Sql(f"(-{as_number(self.compile(part))})", "num")

    def _number(self, token: Token) -> Sql:
        return Sql(f"CAST({token} AS DOUBLE)", "num")

    def _string(self, token: Token) -> Sql:
        return Sql(quoted(string_value(token)), "str")

    def _field(self, token: Token) -> Sql:
        return self._reference(str(token))

    def _quoted_field(self, token: Token) -> Sql:
        return self._reference(str(token)[1:-1])

    def _reference(self, name: str) -> Sql:
        if self.bound:
            if name not in self.bound:
                raise UnsupportedSpl("mvfilter may name one field only")
            return self.bound[name]
        return self.relation.reference(name)

    # --- functions -----------------------------------------------------------------------------------

    def _call(self, name: Token, *arguments: Node) -> Sql:
        if name == "mvfilter":
            return self._mvfilter(*arguments)
        if name in ("match", "replace", "cidrmatch", "urldecode"):
            return self._with_literal(str(name), arguments)
        values = [self.compile(a) for a in arguments]
        known: dict[str, tuple[int, Callable[..., Sql]]] = {
            "isnull": (1, lambda v: Sql(f"({v.text} IS NULL)", "bool")),
            "isnotnull": (1, lambda v: Sql(f"({v.text} IS NOT NULL)", "bool")),
            "lower": (1, lambda v: Sql(f"lower({as_text(v)})", "str")),
            "md5": (1, lambda v: Sql(f"md5({as_text(v)})", "str")),
            "len": (1, lambda v: Sql(f"CAST(length({as_text(v)}) AS DOUBLE)", "num")),
            "tostring": (1, lambda v: Sql(as_text(v), "str")),
            "tonumber": (1, _tonumber),
            "null": (0, lambda: Sql("NULL", "null")),
            "true": (0, lambda: Sql("TRUE", "bool")),
            "false": (0, lambda: Sql("FALSE", "bool")),
            "if": (3, _if),
            "mvjoin": (2, _mvjoin),
        }
        if name == "coalesce":
            return _coalesce(values)
        if name == "substr":
            return _substr(values)
        arity, function = known.get(str(name), (-1, lambda: Sql("", "")))
        if arity != len(values):
            raise UnsupportedSpl(f"{name}() with {len(values)} arguments")
        return function(*values)

    def _mvfilter(self, *arguments: Node) -> Sql:
        """The values of one field for which the argument is true; null when none is left."""
        names = {
            str(t).strip("'")
            for a in arguments
            if isinstance(a, Tree)
            for tree in a.iter_subtrees()
            if tree.data in ("field", "quoted_field")
            for t in tree.children
        }
        if len(arguments) != 1 or len(names) != 1 or self.bound:
            raise UnsupportedSpl("mvfilter takes one condition on one field")
        name = names.pop()
        found = self.relation.reference(name)
        if found.type != "mv":
            raise UnsupportedSpl("mvfilter of a computed field")
        self.bound = {name: Sql("one_value", "str")}
        try:
            condition = as_bool(self.compile(arguments[0]))
        finally:
            self.bound = {}
        kept = f"list_filter({found.text}, lambda one_value: {condition})"
        return Sql(f"(CASE WHEN len({kept}) > 0 THEN {kept} END)", "mv")

    def _literal(self, node: Node) -> str:
        """The text of a string, of strings joined by dots, and of `urldecode` of one."""
        while isinstance(node, Tree) and len(node.children) == 1 and node.data != "string":
            node = node.children[0]
        if isinstance(node, Tree) and node.data == "joined":
            return "".join(map(self._literal, node.children))
        if isinstance(node, Tree) and node.data == "call" and node.children[0] == "urldecode":
            return unquote("".join(map(self._literal, node.children[1:])), errors="strict")
        if not isinstance(node, Tree) or node.data != "string":
            raise UnsupportedSpl("a pattern that is not a string")
        return string_value(str(node.children[0]))

    def _with_literal(self, name: str, arguments: tuple[Node, ...]) -> Sql:
        if len(arguments) != {"match": 2, "replace": 3, "cidrmatch": 2, "urldecode": 1}[name]:
            raise UnsupportedSpl(f"{name}() with {len(arguments)} arguments")
        if name == "urldecode":
            text = self._literal(arguments[0])
            return Sql(f"url_decode({quoted(text)})", "str")
        if name == "cidrmatch":
            return _cidrmatch(self._literal(arguments[0]), as_text(self.compile(arguments[1])))
        subject = as_text(self.compile(arguments[0]))
        regex = to_re2(self._literal(arguments[1]), boolean=name == "match")
        if name == "match":
            return Sql(f"regexp_matches({subject}, {quoted(regex)})", "bool")
        replacement = self._literal(arguments[2])
        if re.search(r"\\(?![0-9])", replacement):
            raise UnsupportedSpl("a backslash in a replacement")
        return Sql(f"regexp_replace({subject}, {quoted(regex)}, {quoted(replacement)}, 'g')", "str")


def _tonumber(value: Sql) -> Sql:
    """Null where the text is no number (Search Reference, "Conversion functions")."""
    return value if value.type == "num" else Sql(f"TRY_CAST({as_text(value)} AS DOUBLE)", "num")


def _if(condition: Sql, yes: Sql, no: Sql) -> Sql:
    chosen = "num" if {yes.type, no.type} <= {"num", "null"} else "str"
    convert = as_number if chosen == "num" else as_text
    return Sql(f"(CASE WHEN {as_bool(condition)} THEN {convert(yes)} ELSE {convert(no)} END)", chosen)


def _coalesce(values: list[Sql]) -> Sql:
    if not values:
        raise UnsupportedSpl("coalesce() without arguments")
    chosen = "num" if {v.type for v in values} <= {"num", "null"} else "str"
    convert = as_number if chosen == "num" else as_text
    return Sql(f"coalesce({', '.join(convert(v) for v in values)})", chosen)


def _substr(values: list[Sql]) -> Sql:
    if len(values) not in (2, 3):
        raise UnsupportedSpl(f"substr() with {len(values)} arguments")
    bounds = ", ".join(f"CAST({as_number(v)} AS BIGINT)" for v in values[1:])
    return Sql(f"substring({as_text(values[0])}, {bounds})", "str")


def _mvjoin(values: Sql, delimiter: Sql) -> Sql:
    if values.type == "mv":
        return Sql(f"array_to_string({values.text}, {as_text(delimiter)})", "str")
    return Sql(as_text(values), "str")


def _cidrmatch(network: str, address: str) -> Sql:
    """Whether an address is in a network; text that is no address is in none."""
    try:
        parsed = ip_network(network)
    except ValueError as error:
        raise UnsupportedSpl(f"the network {network!r}") from error
    if isinstance(parsed, IPv4Network):
        shift = 32 - parsed.prefixlen
        wanted = int(parsed.network_address) >> shift
        return Sql(f"coalesce((spl_ipv4({address}) >> {shift}) = {wanted}, FALSE)", "bool")
    digits, rest = divmod(parsed.prefixlen, 4)
    text = f"{int(parsed.network_address):032x}"
    checks = [f"left(spl_ipv6({address}), {digits}) = {quoted(text[:digits])}"]
    if rest:
        wanted = int(text[digits], 16) >> (4 - rest)
        digit = (
            f"CAST(instr('0123456789abcdef', substr(spl_ipv6({address}), {digits + 1}, 1)) AS INTEGER) - 1"
        )
        checks.append(f"(({digit}) >> {4 - rest}) = {wanted}")
    return Sql(f"coalesce({' AND '.join(checks)}, FALSE)", "bool")

"""Expressions of SPL as DuckDB SQL: what `eval` and `where` compute.

Types are known before the query runs. "mv" is a field of an event, a list of texts that is null when the
field is absent, and "one" a field of an event that has one value at most; a function that takes one value
refuses a list of several at run time. A comparison with
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
from detection_pack.languages.spl.spl_times import steps_back

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

#: What the name of a part of an event's JSON begins with, as if it were a field: its path follows.
RAW_PART = "_raw{}."
#: What the SQL column of every event's field begins with.
EVENT_COLUMN = "e:"

Node = Tree[Token] | Token


@dataclass(frozen=True)
class Sql:
    """An SQL expression and its type: str, num, bool, mv, one or null."""

    text: str
    type: str


class EventFields:
    """The fields of events that one search reads. ``typed`` says of a name whether it is "mv" or "one".

    ``read`` are the names that the search asks for, in order: what runs it makes a column of each.
    """

    def __init__(self, typed: Callable[[str], str]) -> None:
        self._typed = typed
        self.read: dict[str, str] = {}

    def reference(self, name: str) -> Sql:
        if name not in self.read:
            self.read[name] = self._typed(name)
        return Sql(event_column(name), self.read[name])


@dataclass(frozen=True)
class Relation:
    """A step of the pipeline: the name of its SQL relation, its columns by field, and the events in which a
    field that is no column is still looked up."""

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    open: EventFields | None = None

    def reference(self, name: str) -> Sql:
        """The value of a field; an unknown field is null (field names are case-sensitive)."""
        if name in self.columns:
            return Sql(column(name), self.columns[name])
        if self.open is not None:
            return self.open.reference(name)
        return Sql("NULL", "null")


def column(name: str) -> str:
    """The SQL column of a field that a search made."""
    return quoted_name(f"f:{_cased(name)}")


def quoted_name(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def event_column(name: str) -> str:
    """The SQL column of an event's field."""
    return quoted_name(f"{EVENT_COLUMN}{_cased(name)}")


def _cased(name: str) -> str:
    """Another text for every name, whatever the letter case: names are case-sensitive in SPL, not in SQL."""
    capitals = [str(n) for n, c in enumerate(name) if c.isascii() and c.isupper()]
    return f"{name}'{','.join(capitals)}" if capitals or "'" in name else name


def quoted(text: str) -> str:
    """An SQL string."""
    if "\0" in text:
        raise UnsupportedSpl("a NUL character")
    return "'" + text.replace("'", "''") + "'"


def as_list(sql: Sql) -> str:
    """A field of an event as a list; null where it is absent."""
    return sql.text if sql.type == "mv" else f"(CASE WHEN {sql.text} IS NOT NULL THEN [{sql.text}] END)"


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

    def __init__(self, relation: Relation, source: Source, now: float | None = None) -> None:
        self.relation, self.source, self.now = relation, source, now
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
        if {a.type, b.type} <= {"mv", "one"}:
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

    def _arithmetic(self, left: Node, operator: Token, right: Node) -> Sql:
        """Of numbers; a division by zero is null (Search Reference, "eval")."""
        a, b = as_number(self.compile(left)), as_number(self.compile(right))
        return Sql(f"({a} / nullif({b}, 0))" if operator == "/" else f"({a} {operator} {b})", "num")

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
        if name == "spath" and len(arguments) == 2 and self._is_event(arguments[0]):
            # What an event says is looked up by its keys: the whole of it need not be there.
            return self.relation.reference(RAW_PART + _path(self._literal(arguments[1])))
        if name in ("mvfind", "spath") and len(arguments) == 2:
            subject, text = self.compile(arguments[0]), self._literal(arguments[1])
            return _mvfind(subject, text) if name == "mvfind" else _spath(subject, text)
        if name == "relative_time":
            return self._relative_time(*arguments)
        if name == "mvrange":
            return _mvrange([self.compile(a).text for a in arguments], arguments)
        values = [self.compile(a) for a in arguments]
        known: dict[str, tuple[int, Callable[..., Sql]]] = {
            "isnull": (1, lambda v: Sql(f"({v.text} IS NULL)", "bool")),
            "isnotnull": (1, lambda v: Sql(f"({v.text} IS NOT NULL)", "bool")),
            "lower": (1, lambda v: Sql(f"lower({as_text(v)})", "str")),
            "md5": (1, lambda v: Sql(f"md5({as_text(v)})", "str")),
            "len": (1, lambda v: Sql(f"CAST(length({as_text(v)}) AS DOUBLE)", "num")),
            "tostring": (1, lambda v: Sql(as_text(v), "str")),
            "tonumber": (1, _tonumber),
            "floor": (1, lambda v: Sql(f"floor({as_number(v)})", "num")),
            "now": (0, self._now),
            "null": (0, lambda: Sql("NULL", "null")),
            "true": (0, lambda: Sql("TRUE", "bool")),
            "false": (0, lambda: Sql("FALSE", "bool")),
            "if": (3, _if),
            "mvindex": (2, _mvindex),
            "mvjoin": (2, _mvjoin),
            "split": (2, _split),
        }
        if name == "coalesce":
            return _coalesce(values)
        if name == "substr":
            return _substr(values)
        arity, function = known.get(str(name), (-1, lambda: Sql("", "")))
        if arity != len(values):
            raise UnsupportedSpl(f"{name}() with {len(values)} arguments")
        return function(*values)

    def _now(self) -> Sql:
        if self.now is None:
            raise UnsupportedSpl("now() here")
        return Sql(f"CAST({self.now!r} AS DOUBLE)", "num")

    def _relative_time(self, *arguments: Node) -> Sql:
        """A time before another by a modifier (Search Reference, "relative_time")."""
        if len(arguments) != 2:
            raise UnsupportedSpl(f"relative_time() with {len(arguments)} arguments")
        back, unit = steps_back(self._literal(arguments[1]))
        time = f"({as_number(self.compile(arguments[0]))} - {back})"
        return Sql(f"(floor({time} / {unit}) * {unit})" if unit else time, "num")

    def _is_event(self, node: Node) -> bool:
        """Whether an expression is `_raw` of an event, which no step changes."""
        while isinstance(node, Tree) and len(node.children) == 1 and node.data != "field":
            node = node.children[0]
        named = isinstance(node, Tree) and node.data == "field" and node.children[0] == "_raw"
        return named and self.relation.open is not None

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
        if found.type not in ("mv", "one"):
            raise UnsupportedSpl("mvfilter of a computed field")
        self.bound = {name: Sql("one_value", "str")}
        try:
            condition = as_bool(self.compile(arguments[0]))
        finally:
            self.bound = {}
        kept = f"list_filter({as_list(found)}, lambda one_value: {condition})"
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
            return cidrmatch(self._literal(arguments[0]), as_text(self.compile(arguments[1])))
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


def _mvrange(values: list[str], nodes: tuple[Node, ...]) -> Sql:
    """The whole numbers from the first to before the last (Search Reference, "mvrange")."""
    if len(values) != 2 or any(isinstance(node, Tree) and list(node.find_data("field")) for node in nodes):
        raise UnsupportedSpl("mvrange of other than two numbers")
    low, high = (f"CAST({value} AS BIGINT)" for value in values)
    return Sql(f"list_transform(range({low}, {high}), lambda n: CAST(n AS DOUBLE))", "nums")


def _mvjoin(values: Sql, delimiter: Sql) -> Sql:
    if values.type == "mv":
        return Sql(f"array_to_string({values.text}, {as_text(delimiter)})", "str")
    return Sql(as_text(values), "str")


def _split(text: Sql, delimiter: Sql) -> Sql:
    return Sql(f"string_split({as_text(text)}, {as_text(delimiter)})", "mv")


def _mvfind(values: Sql, regex: str) -> Sql:
    """The place of the first value that an expression finds, from 0; null where it finds none."""
    if values.type not in ("mv", "one"):
        raise UnsupportedSpl("mvfind in what is not a field or several values")
    found = to_re2(regex, boolean=True)
    flags = f"list_transform({as_list(values)}, lambda v: regexp_matches(v, {quoted(found)}))"
    return Sql(f"CAST(nullif(list_position({flags}, TRUE), 0) - 1 AS DOUBLE)", "num")


def _mvindex(values: Sql, place: Sql) -> Sql:
    """One value by its place, from 0; null where there is none (negative places are not modelled)."""
    if values.type not in ("mv", "one"):
        raise UnsupportedSpl("mvindex of what is not a field or several values")
    at = as_number(place)
    return Sql(
        f"(CASE WHEN {at} < 0 THEN error('unsupported SPL: mvindex with a negative place')"
        f" ELSE {as_list(values)}[CAST({at} AS BIGINT) + 1] END)",
        "one",
    )


def _spath(text: Sql, path: str) -> Sql:
    """What stands under a path in a JSON text: the members of an array under ``name{}``, an object as its
    JSON text, null where there is nothing (Search Reference, "spath", and "JSON functions")."""
    found = f"[TRY_CAST({as_text(text)} AS JSON)]"
    for step in _path(path).split("."):
        key = quoted(f"/{step.removesuffix('{}')}")
        found = f"list_transform({found}, lambda j: json_extract(j, {key}))"
        if step.endswith("{}"):
            members = "CASE WHEN json_type(j) = 'ARRAY' THEN CAST(j AS JSON[]) END"
            found = f"flatten(list_transform({found}, lambda j: {members}))"
    kept = f"list_filter(list_transform({found}, lambda j: j ->> '$'), lambda v: v IS NOT NULL)"
    return Sql(f"nullif({kept}, [])", "mv")


def _path(path: str) -> str:
    """A path of keys without places in arrays. Raises `UnsupportedSpl` for another."""
    if not re.fullmatch(r"\w+(?:\{\})?(?:\.\w+(?:\{\})?)*", path, re.ASCII):
        raise UnsupportedSpl(f"the path {path!r}")
    return path


def cidrmatch(network: str, address: str) -> Sql:
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

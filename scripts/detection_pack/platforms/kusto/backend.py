"""Sigma to KQL: the stock Kusto backend plus what it lacks.

Added: whole-term matching as ``has_any``, ``in~`` for text alone, equality on the file name, wildcards
inside a value, ``fieldref``, ``cased``, and comparisons that fit the column's type. The correlations are
in `correlations`.

Semantics: Kusto's documentation of string operators and of null values. A string column is never null in
Kusto, an absent value is the empty string; so ``A =~ B`` is total and needs no guard under ``not``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from sigma.backends.kusto.kusto import KustoBackend
from sigma.conditions import ConditionAND, ConditionOR
from sigma.conversion.state import ConversionState
from sigma.rule import SigmaRule
from sigma.types import (
    SigmaBool,
    SigmaCIDRExpression,
    SigmaFieldReference,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SpecialChars,
)

from detection_pack.languages.kql.kql_literals import kql_string, kql_verbatim
from detection_pack.languages.kql.named_value import column_name, is_name, named_value
from detection_pack.languages.regex.patterns import with_exact_end
from detection_pack.model.list_table import Cell, ListTable, NotMaintained, cell_of
from detection_pack.model.refused_value import RefusedValue
from detection_pack.platforms.kusto.correlations import KustoCorrelations
from detection_pack.platforms.kusto.watchlist_rows import row_condition
from detection_pack.platforms.named_values import entry_of
from detection_pack.platforms.terms import file_name, whole_term

Any_ = SpecialChars.WILDCARD_MULTI
One = SpecialChars.WILDCARD_SINGLE


class SentinelBackend(KustoCorrelations, KustoBackend):  # type: ignore[misc]
    """KQL for the tables of Microsoft Sentinel."""

    name: ClassVar[str] = "Microsoft Sentinel KQL"
    #: What follows the name of a table in a message.
    schema: ClassVar[str] = ""
    #: Two fields without regard to case: {field1}, {field2}.
    fieldref_operators: ClassVar[dict[tuple[bool, bool], str]] = {
        (False, False): "=~",
        (True, False): "startswith",
        (False, True): "endswith",
        (True, True): "contains",
    }
    #: (case-insensitive, case-sensitive)
    operators: ClassVar[dict[str, tuple[str, str]]] = {
        "equals": ("=~", "=="),
        "startswith": ("startswith", "startswith_cs"),
        "endswith": ("endswith", "endswith_cs"),
        "contains": ("contains", "contains_cs"),
    }

    # ---- fields and their types ---------------------------------------------------------------------

    def __init__(
        self, *args: Any, tables: Mapping[str, Mapping[str, str]] | None = None, **kwargs: Any
    ) -> None:
        """``tables``: the columns of each table with their Kusto types."""
        super().__init__(*args, **kwargs)
        self.tables = tables or {}
        self.used_columns: set[str] = set()
        self.lists: Mapping[str, ListTable] = {}
        self.lists_asked: set[str] = set()
        self._inside = 0

    def _column(self, name: str, state: ConversionState) -> tuple[str, str]:
        """The expression for a column, and its Kusto type. Raises `RefusedValue` where there is none.

        A field that the pipeline derives is text, and stands before any column of its name.
        """
        table = state.processing_state.get("query_table", "")
        if named_column(name, state.processing_state) is not None:
            self.used_columns.add(name)
            return column_name(name), "string"
        columns = self.tables.get(table, {})
        derived = name in self._listed("derived_fields", state)
        if not derived and name not in columns:
            raise RefusedValue(f'table "{table}"{self.schema} has no column "{name}"', name)
        self.used_columns.add(name)
        return name, "string" if derived else columns[name]

    def _text(self, name: str, state: ConversionState) -> str:
        """The column as text: dynamic and boolean columns have no string operators of their own."""
        column, kind = self._column(name, state)
        return column if kind == "string" else f"tostring({column})"

    def _listed(self, key: str, state: ConversionState) -> Any:
        return state.processing_state.get(key) or ()

    # ---- lists of a site ----------------------------------------------------------------------------

    def convert_condition_and(self, cond: ConditionAND, state: ConversionState) -> Any:
        cells = [(arg, cell) for arg in cond.args if (cell := self._cell(arg)) is not None]
        if not cells:
            return super().convert_condition_and(cond, state)
        rows = [
            self._row([(arg, cell) for arg, cell in cells if cell.use == use], state)
            for use in dict.fromkeys(cell.use for _, cell in cells)
        ]
        asked = [arg for arg, _ in cells]
        rest = [f"({self.convert_condition(arg, state)})" for arg in cond.args if arg not in asked]
        return " and ".join([*rest, *rows])

    def _cell(self, cond: Any) -> Cell | None:
        return cell_of(getattr(cond, "value", None), self.lists)

    def _row(self, cells: Sequence[tuple[Any, Cell]], state: ConversionState) -> str:
        """The condition that asks a watchlist for the fields of one row."""
        use, table = cells[0][1].use, cells[0][1].table
        self.lists_asked.add(use)
        for arg, _ in cells:
            kind = self._column(arg.field, state)[1]
            if kind not in ("string", "dynamic") or arg.field in dict(
                self._listed("file_name_fields", state)
            ):
                raise NotMaintained(use, f"{arg.field} is {kind}, which the cells of a watchlist are not")
        if len({cell.column for _, cell in cells}) < len(cells):
            raise NotMaintained(use, "a value of it stands in several fields here")
        return row_condition(use, table, {cell.column: self._text(arg.field, state) for arg, cell in cells})

    # ---- strings ------------------------------------------------------------------------------------

    def convert_condition_field_eq_val_str(self, cond: Any, state: ConversionState) -> str:
        if (cell := self._cell(cond)) is not None:
            return self._row([(cond, cell)], state)
        return self._strings(cond.field, [cond.value], state, cased=False)

    def convert_condition_field_eq_val_str_case_sensitive(self, cond: Any, state: ConversionState) -> str:
        return self._strings(cond.field, [cond.value], state, cased=True)

    def convert_condition_as_in_expression(
        self, cond: ConditionOR | ConditionAND, state: ConversionState
    ) -> str:
        """A list of values of one field: one operator for all that share a shape."""
        first: Any = cond.args[0]
        field = str(first.field)
        if isinstance(cond, ConditionAND):
            return " and ".join(self.convert_condition(arg, state) for arg in cond.args)
        listed: list[Any] = list(cond.args)
        numbers = [arg for arg in listed if not isinstance(arg.value, SigmaString)]
        texts = [arg.value for arg in listed if isinstance(arg.value, SigmaString)]
        pieces = [self.convert_condition(arg, state) for arg in numbers]
        if texts:
            pieces.insert(0, self._strings(field, texts, state, cased=False))
        return pieces[0] if len(pieces) == 1 else f"({' or '.join(pieces)})"

    def _strings(self, field: str, values: list[SigmaString], state: ConversionState, cased: bool) -> str:
        name, kind = self._column(field, state)
        if kind in ("int", "long", "real"):
            return self._either([self._number(field, name, value) for value in values])
        if kind == "datetime":
            raise RefusedValue(f'"{name}" holds a time, which has no text to compare', field)
        text = self._text(field, state)
        terms: list[str] = []
        by_operator: dict[str, list[str]] = {}
        files: list[str] = []
        patterns: list[str] = []
        pieces: list[str] = []
        file_column = dict(self._listed("file_name_fields", state)).get(field)
        for value in values:
            if not cased and (term := whole_term(value)):
                terms.append(term.text)
            elif file_column and (file := file_name(value)):
                files.append(file)
            elif value.s and all(part == Any_ for part in value.s):
                pieces.append(f"isnotempty({text})")
            elif (shape := _shape(value)) is not None:
                by_operator.setdefault(shape[0], []).append(shape[1])
            else:
                patterns.append(_pattern(value, cased))
        if files:
            self.used_columns.add(file_column or "")
            pieces += self._equal(file_column or "", files, cased)
        pieces += self._equal(text, by_operator.pop("equals", []), cased)
        if terms:
            listed = _list(terms)
            pieces.append(
                f"{text} has {kql_string(terms[0])}" if len(terms) == 1 else f"{text} has_any {listed}"
            )
        for shape_name, found in by_operator.items():
            operator = self.operators[shape_name][cased]
            pieces += [f"{text} {operator} {kql_string(value)}" for value in found]
        pieces += [f"{text} matches regex {kql_verbatim(pattern)}" for pattern in patterns]
        return self._either(pieces)

    def _equal(self, text: str, values: list[str], cased: bool) -> list[str]:
        if not values:
            return []
        if len(values) == 1:
            return [f"{text} {self.operators['equals'][cased]} {kql_string(values[0])}"]
        return [f"{text} {'in' if cased else 'in~'} {_list(values)}"]

    @staticmethod
    def _either(pieces: list[str]) -> str:
        return pieces[0] if len(pieces) == 1 else f"({' or '.join(pieces)})"

    # ---- other values -------------------------------------------------------------------------------

    def convert_condition_field_eq_val_num(self, cond: Any, state: ConversionState) -> str:
        name, kind = self._column(cond.field, state)
        if kind == "string":
            return f"{name} == {kql_string(str(cond.value))}"
        if kind in ("int", "long", "real"):
            return f"{name} == {cond.value}"
        raise RefusedValue(f'"{name}" is {kind} and holds no number', cond.field)

    def convert_condition_field_eq_val_bool(self, cond: Any, state: ConversionState) -> str:
        name, kind = self._column(cond.field, state)
        value = cond.value
        assert isinstance(value, SigmaBool)
        word = "true" if value.boolean else "false"
        if kind == "bool":
            return f"{name} == {word}"
        if kind == "string":
            return f"{name} =~ {kql_string(word)}"
        raise RefusedValue(f'"{name}" is {kind} and holds no truth value', cond.field)

    def convert_condition_field_eq_val_re(self, cond: Any, state: ConversionState) -> str:
        value = cond.value
        assert isinstance(value, SigmaRegularExpression)
        source = with_exact_end(value, r"\n?\z")
        flags = "".join(
            sorted(
                {
                    SigmaRegularExpressionFlag.IGNORECASE: "i",
                    SigmaRegularExpressionFlag.MULTILINE: "m",
                    SigmaRegularExpressionFlag.DOTALL: "s",
                }[flag]
                for flag in value.flags
            )
        )
        pattern = f"(?{flags}){source}" if flags else source
        return f"{self._text(cond.field, state)} matches regex {kql_verbatim(pattern)}"

    def convert_condition_field_eq_val_cidr(self, cond: Any, state: ConversionState) -> str:
        value = cond.value
        assert isinstance(value, SigmaCIDRExpression)
        version = value.network.version
        function = "ipv4_is_in_range" if version == 4 else "ipv6_is_in_range"
        # Null for a text that is no address of that version; null would make a surrounding not() null too.
        return f"coalesce({function}({self._text(cond.field, state)}, {kql_string(value.cidr)}), false)"

    def convert_condition_field_eq_val_timestamp_part(self, cond: Any, state: ConversionState) -> str:
        raise RefusedValue(
            "a part of a time depends on the time zone that a platform shows; leave it out", cond.field
        )

    def convert_condition_field_compare_op_val(self, cond: Any, state: ConversionState) -> str:
        name, kind = self._column(cond.field, state)
        if kind not in ("int", "long", "real"):
            name = f"todouble({name})"
        compared: str = self.compare_op_expression.format(
            field=name, operator=self.compare_operators[cond.value.op], value=cond.value.number
        )
        return f"coalesce({compared}, false)"

    def convert_condition_field_eq_field(self, cond: Any, state: ConversionState) -> str:
        reference = cond.value
        assert isinstance(reference, SigmaFieldReference)
        operator = self.fieldref_operators[(bool(reference.starts_with), bool(reference.ends_with))]
        return f"{self._text(cond.field, state)} {operator} {self._text(reference.field, state)}"

    def convert_condition_field_eq_val_null(self, cond: Any, state: ConversionState) -> str:
        return f"isempty({self._text(cond.field, state)})"

    def convert_condition_field_exists(self, cond: Any, state: ConversionState) -> str:
        return f"isnotempty({self._text(cond.field, state)})"

    def convert_condition_field_not_exists(self, cond: Any, state: ConversionState) -> str:
        return f"isempty({self._text(cond.field, state)})"

    def _refuse_keyword(self, cond: Any, state: ConversionState) -> str:
        raise RefusedValue(
            "a value without a field would search every column; name the field", str(cond.value)
        )

    convert_condition_val_str = _refuse_keyword
    convert_condition_val_num = _refuse_keyword
    convert_condition_val_re = _refuse_keyword

    @staticmethod
    def _number(field: str, name: str, value: SigmaString) -> str:
        plain = str(value)
        if not re.fullmatch(r"-?[0-9]{1,18}", plain):
            raise RefusedValue(
                f'"{name}" holds a number and cannot be compared with "{plain}"; write a number', field
            )
        return f"{name} == {int(plain)}"

    # ---- the query ----------------------------------------------------------------------------------

    def convert_condition(self, cond: Any, state: ConversionState) -> Any:
        """The outermost AND becomes one ``where`` a condition: it reads and optimises better."""
        if self._inside or not isinstance(cond, ConditionAND):
            return self._nested(cond, state)
        return "\n| where ".join(str(self._nested(arg, state)) for arg in _conjuncts(cond))

    def _nested(self, cond: Any, state: ConversionState) -> Any:
        self._inside += 1
        try:
            return super().convert_condition(cond, state)
        finally:
            self._inside -= 1

    def finish_query(self, rule: Any, query: Any, state: ConversionState) -> Any:
        """Table, time range, derived columns, then the conditions."""
        if not isinstance(rule, SigmaRule):
            return query
        table = state.processing_state.get("query_table")
        if not table:
            raise RefusedValue("the pipeline names no table for this log source", "logsource")
        derived = dict(state.processing_state.get("derived_fields") or {})
        derived |= named_columns([*sorted(self.used_columns), *rule.fields], state.processing_state)
        before = [name for name in derived if name in self.used_columns]
        after = [name for name in derived if name in rule.fields and name not in before]
        lines = [
            str(table),
            "| where TimeGenerated > ago(LookbackPeriod)",
            *(f"| extend {column_name(name)} = {derived[name]}" for name in before),
            f"| where {query}",
            *(f"| extend {column_name(name)} = {derived[name]}" for name in after),
        ]
        return "\n".join(lines)


def named_column(name: str, state: Mapping[str, Any]) -> str | None:
    """The expression for a named value of a list (the state ``named_values``); None for another field."""
    if (found := entry_of(state.get("named_values"), name)) is None:
        return None
    stated, key = found
    if not is_name(key):
        raise RefusedValue(f'"{key}" cannot be the name of a value in a list', name)
    return named_value(stated["list"], key, stated["name"], stated["value"])


def named_columns(names: Iterable[str], state: Mapping[str, Any]) -> dict[str, str]:
    """The expression of each of these names that is a named value of a list."""
    found = ((name, named_column(name, state)) for name in dict.fromkeys(names))
    return {name: expression for name, expression in found if expression is not None}


def _conjuncts(cond: ConditionAND) -> list[Any]:
    return [
        inner for arg in cond.args for inner in (_conjuncts(arg) if isinstance(arg, ConditionAND) else [arg])
    ]


def _list(values: list[str]) -> str:
    quoted = [kql_string(value) for value in dict.fromkeys(values)]
    line = f"({', '.join(quoted)})"
    return line if len(line) <= 90 else "(\n    " + ",\n    ".join(quoted) + "\n  )"


def _shape(value: SigmaString) -> tuple[str, str] | None:
    """``(operator, text)`` where one Kusto operator says the value; None where it takes a pattern."""
    parts = value.s
    texts = [part for part in parts if isinstance(part, str)]
    if not parts:
        return "equals", ""
    if len(texts) != 1 or One in parts:
        return None
    match [part == Any_ for part in parts]:
        case [False]:
            return "equals", texts[0]
        case [False, True]:
            return "startswith", texts[0]
        case [True, False]:
            return "endswith", texts[0]
        case [True, False, True]:
            return "contains", texts[0]
    return None


def _pattern(value: SigmaString, cased: bool) -> str:
    """An anchored RE2 pattern for a value with wildcards inside."""
    body = "".join(
        _escape_re2(part) if isinstance(part, str) else (".*" if part == Any_ else ".") for part in value.s
    )
    return f"(?{'' if cased else 'i'}s)^{body}$"


def _escape_re2(text: str) -> str:
    return "".join(
        c
        if c.isalnum() or c in " _/-:@,;<>=~&%!#'\"`"
        else (f"\\{c}" if c.isprintable() else f"\\x{{{ord(c):x}}}")
        for c in text
    )

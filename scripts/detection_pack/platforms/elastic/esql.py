"""Sigma correlations as ES|QL, exactly: field against field, clock windows, groups without a value.

Semantics: Elastic's ES|QL reference. A comparison with null is null and WHERE drops it, so below a NOT every
comparison is COALESCEd to false: an absent field is then different from every value, as in Sigma. ``==`` and
RLIKE see letter case; STATS keeps the group of null; COUNT_DISTINCT leaves null out and is approximate above
its precision threshold of 3,000. A field with several values compares as null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionItem,
    ConditionNOT,
    ConditionOR,
)
from sigma.conversion.base import TextQueryBackend
from sigma.conversion.state import ConversionState
from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule
from sigma.rule import SigmaRule
from sigma.types import SigmaCompareExpression, SigmaExists, SigmaFieldReference, SigmaNull, SigmaType

from detection_pack.languages.lucene.lucene_regex import TooLarge, pack, render
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.rule import Rule
from detection_pack.platforms.aliases import COUNTED_BY_ALIAS, rule_key, several
from detection_pack.platforms.elastic.conditions import (
    TEXT_TYPES,
    Wanted,
    field_type,
    listable,
    unfolded,
    wanted,
)
from detection_pack.platforms.elastic.esql_text import Counted, compose, name, string
from detection_pack.platforms.elastic.values import FOLDED, text_of

_OPERATORS = {
    SigmaCompareExpression.CompareOperators.LT: "<",
    SigmaCompareExpression.CompareOperators.LTE: "<=",
    SigmaCompareExpression.CompareOperators.GT: ">",
    SigmaCompareExpression.CompareOperators.GTE: ">=",
}
_CONDITION_OPERATORS = {"LT": "<", "LTE": "<=", "GT": ">", "GTE": ">=", "EQ": "==", "NEQ": "!="}
#: With the most values of a rule (`limits`), brackets and what stands in each are some 40 and 25 deep.
_IN_A_BRACKET = 25
_AGGREGATES = {"value_sum": "SUM({})", "value_avg": "AVG({})"}


class EsqlBackend(TextQueryBackend):
    """Conditions as ES|QL expressions, correlations as whole queries."""

    name: ClassVar[str] = "ES|QL for correlations"
    requires_pipeline: ClassVar[bool] = True
    correlation_methods: ClassVar[dict[str, str]] = {"stats": "STATS"}
    default_correlation_method: ClassVar[str] = "stats"
    #: Of the column of each alias the field by rule (`platforms.aliases`).
    aliases: Mapping[str, Mapping[str, str]] = {}

    def __init__(self, processing_pipeline: Any = None, *, source: Rule, **kwargs: Any) -> None:
        super().__init__(processing_pipeline, **kwargs)
        self._rule = source
        self._negations = 0

    def convert_rule(self, rule: SigmaRule, *args: Any, **kwargs: Any) -> list[Any]:
        converted: list[Any] = super().convert_rule(rule, *args, **kwargs)
        if len(converted) > 1:
            raise RefusedValue("a list of conditions is not supported; write one", "condition")
        state = self.last_processing_pipeline.state
        for field in rule.fields:
            # Which field it is may hang on the rest of the rule, and this rule leaves it open.
            if field in (undecided := state.get("undecided_fields") or {}):
                raise RefusedValue(undecided[field], field)
            field_type(field, state)
        return converted

    # -- conditions ------------------------------------------------------------------------------------

    def convert_condition_and(self, cond: ConditionAND, state: ConversionState) -> str:
        return _joined([self._part(arg, state) for arg in cond.args], "AND")

    def convert_condition_or(self, cond: ConditionOR, state: ConversionState) -> str:
        parts: list[str] = []
        lists: list[Any] = [arg for arg in cond.args if listable(arg)]
        for field, values in unfolded(lists).items():
            parts += self._clauses(field, values, state)
        parts += [self._part(arg, state) for arg in cond.args if not listable(arg)]
        return _joined(parts, "OR")

    def convert_condition_not(self, cond: ConditionNOT, state: ConversionState) -> str:
        self._negations += 1
        try:
            return f"NOT ({self.convert_condition(cond.args[0], state)})"
        finally:
            self._negations -= 1

    def convert_condition_field_eq_val(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        field, value = cond.field, cond.value
        if listable(cond):
            listed, values = next(iter(unfolded([cond]).items()))
            clauses = self._clauses(listed, values, state)
            return clauses[0] if len(clauses) == 1 else f"({_joined(clauses, 'OR')})"
        kind = field_type(field, state.processing_state)
        if isinstance(value, SigmaNull) or (isinstance(value, SigmaExists) and not value):
            return f"{name(field)} IS NULL"
        if isinstance(value, SigmaExists):
            return f"{name(field)} IS NOT NULL"
        if isinstance(value, SigmaFieldReference):
            return self._total(self._fields_equal(field, kind, value, state))
        if isinstance(value, SigmaCompareExpression) and kind == "long":
            return self._total(f"{name(field)} {_OPERATORS[value.op]} {value.number}")
        raise RefusedValue(f'ES|QL cannot compare "{field}" with this kind of value', field)

    def convert_condition_val(self, cond: Any, state: ConversionState) -> str:
        raise RefusedValue(
            "a keyword without a field would search every field; name the field", str(cond.value)
        )

    def _part(self, arg: Any, state: ConversionState) -> str:
        text = str(self.convert_condition(arg, state))
        return f"({text})" if isinstance(arg, ConditionItem) and not isinstance(arg, ConditionNOT) else text

    def _total(self, expression: str) -> str:
        """Never null below a NOT; elsewhere WHERE takes null for false by itself."""
        return f"COALESCE({expression}, false)" if self._negations else expression

    def _fields_equal(self, field: str, kind: str, other: SigmaFieldReference, state: ConversionState) -> str:
        if other.starts_with or other.ends_with:
            raise RefusedValue("only whole fields can be compared", other.field)
        if kind != field_type(other.field, state.processing_state) and not {
            kind,
            field_type(other.field, state.processing_state),
        } <= set(TEXT_TYPES):
            raise RefusedValue(f'"{field}" and "{other.field}" hold different types', field)
        if kind in TEXT_TYPES:
            return f"TO_LOWER({name(field)}) == TO_LOWER({name(other.field)})"
        return f"{name(field)} == {name(other.field)}"

    def _clauses(self, field: str, values: Sequence[SigmaType], state: ConversionState) -> list[str]:
        return [
            c
            for found in wanted(field, values, state.processing_state, words=False)
            for c in self._said(found)
        ]

    def _said(self, found: Wanted) -> list[str]:
        field = name(found.field)
        out = [f"{field} IS NULL"] if found.empty else []
        if found.plain:
            out.append(_among(field, [string(text) for text in found.plain]))
        texts = [t for t in map(text_of, found.folded) if t]
        folded = [text for text in texts if _lowers(text)]
        others = [text for text in texts if not _lowers(text)]
        if folded:
            out.append(_among(f"TO_LOWER({field})", [string(text.lower()) for text in folded]))
        if found.literals:
            out.append(_among(field, found.literals))
        if found.networks:
            out.append(f"CIDR_MATCH({field}, {', '.join(string(_cidr(n)) for n in found.networks)})")
        try:
            nodes = [*found.nodes, *pack(others, FOLDED)]
        except TooLarge as error:
            what = f'a value of "{found.field}" is too long for an Elasticsearch regular expression'
            raise RefusedValue(what, max(others, key=len)) from error
        out += [f"{field} RLIKE {string(render(node))}" for node in nodes]
        return [clause if clause.endswith(" IS NULL") else self._total(clause) for clause in out]

    # -- correlations ----------------------------------------------------------------------------------

    def convert_correlation_rule(self, rule: SigmaCorrelationRule, *args: Any, **kwargs: Any) -> list[str]:
        facts = self._rule.correlation
        assert facts is not None
        condition = rule.condition
        if condition is not None and not isinstance(condition, SigmaCorrelationCondition):
            raise RefusedValue("extended correlation conditions are not supported on Elastic", "condition")
        rules = [ref.rule for ref in rule.rules or ()]
        if facts.type == "temporal_ordered" and len(rules) != 2:
            raise RefusedValue("ES|QL decides the order of two rules, not of more", "rules")
        states = [r.get_conversion_states()[0].processing_state for r in rules]
        if any(s.get("index") != states[0].get("index") for s in states):
            raise RefusedValue("the correlated rules read different indices", "rules")
        wheres = [str(r.get_conversion_result()[0]) for r in rules]
        operator, threshold = (">=", len(rules))
        if condition is not None:
            operator, threshold = _CONDITION_OPERATORS[condition.op.name], condition.count
        counted = self._counted(facts.type, condition, states[0])
        fields = dict(zip(facts.group_by, rule.group_by or (), strict=True))
        shown = dict(zip(self._rule.alert.fields, rules[0].fields, strict=False))
        named: dict[str, list[str]] = {}
        if several(self.aliases) and not facts.type.startswith("temporal"):
            raise RefusedValue(COUNTED_BY_ALIAS, "aliases")
        for column, by_rule in self.aliases.items():
            own = [by_rule[rule_key(one)] for one in rules]
            folds = set(own) & set(states[0].get("identity_fields") or ())
            texts = [self._as_text(field, state) for field, state in zip(own, states, strict=True)]
            named[column] = [f"TO_LOWER({text})" if folds else text for text in texts]
        text = compose(
            self._rule, states[0], wheres, counted, operator, threshold, {**shown, **fields}, facts, named
        )
        return [text]

    @staticmethod
    def _as_text(field: str, state: Mapping[str, Any]) -> str:
        return name(field) if field_type(field, state) in TEXT_TYPES else f"TO_STRING({name(field)})"

    def _counted(self, kind: str, condition: Any, state: Mapping[str, Any]) -> Counted:
        if kind == "event_count":
            return Counted("event_count", "COUNT(*)")
        if kind in ("temporal", "temporal_ordered"):
            return Counted("rule_count", None, kind == "temporal_ordered")
        field = condition.fieldref if condition is not None else None
        if isinstance(field, list) and len(field) == 1:
            [field] = field
        people = state.get("identity_fields") or ()
        if isinstance(field, list) and kind == "value_count":
            # The text of a field that is not there is null, and with it the whole.
            texts = [self._as_text(one, state) for one in field]
            texts = [f"TO_LOWER({t})" if one in people else t for one, t in zip(field, texts, strict=True)]
            return Counted(kind, f"COUNT_DISTINCT(CONCAT({f', {string(chr(9))}, '.join(texts)}))")
        if not isinstance(field, str):
            raise RefusedValue(f"the correlation type {kind} is not supported on Elastic", "type")
        if kind == "value_count":
            folded = field in people
            return Counted(kind, f"COUNT_DISTINCT({f'TO_LOWER({name(field)})' if folded else name(field)})")
        if kind in ("value_median", "value_percentile"):
            raise RefusedValue(f"ES|QL approximates what {kind} asks for (t-digest)", "type")
        if kind in _AGGREGATES:
            if field_type(field, state) != "long":
                raise RefusedValue(f'"{field}" holds no number', field)
            return Counted(kind, _AGGREGATES[kind].format(name(field)))
        raise RefusedValue(f"the correlation type {kind} is not supported on Elastic", "type")


def _joined(parts: Sequence[str], operator: str) -> str:
    """The parts with the operator between them. Of many a bracket holds some: Elasticsearch reads each
    operator one deeper than the one before it, and refuses what is more than 300 deep (`ExpressionBuilder`).
    """
    if len(parts) <= _IN_A_BRACKET:
        return f" {operator} ".join(parts)
    brackets = [parts[n : n + _IN_A_BRACKET] for n in range(0, len(parts), _IN_A_BRACKET)]
    return f" {operator} ".join(f"({f' {operator} '.join(some)})" for some in brackets)


def _among(field: str, values: Sequence[str]) -> str:
    return f"{field} == {values[0]}" if len(values) == 1 else f"{field} IN ({', '.join(values)})"


def _lowers(text: str) -> bool:
    """Whether TO_LOWER gives one text for every spelling: a sigma depends on its place in the word, and İ
    becomes two characters."""
    return all(len(char.lower()) == 1 and char not in "Σσς" for char in text)


def _cidr(network: str) -> str:
    if "/" in network:
        return network
    return f"{network}/{128 if ':' in network else 32}"

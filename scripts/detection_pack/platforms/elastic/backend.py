"""Sigma to Lucene query strings: pySigma's `LuceneBackend` and what it lacks or gets wrong.

* keyword and wildcard fields compare with letter case, Sigma does not: a list of values becomes one
  case-folded regular expression (`values`, `lucene_regex`), split at Elasticsearch's limits.
* plain ``|contains`` values match whole terms on the fields that the pipeline lists.
* every NOT stands beside something positive: a bare negation matches nothing in Lucene proper.
* ``|re`` is translated where Lucene can say exactly the same (`pcre`), refused elsewhere.

Departure that no query can mend: keyword fields carry ``ignore_above: 1024``, so a longer value is in the
document but not in the index, and nothing finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionItem,
    ConditionNOT,
    ConditionOR,
)
from sigma.conversion.state import ConversionState
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule
from sigma.types import SigmaCompareExpression, SigmaExists, SigmaNull, SigmaType

from detection_pack.languages.lucene.lucene_regex import TooLarge, pack, render
from detection_pack.model.findings import PackError
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import convert
from detection_pack.platforms.elastic.conditions import (
    Condition,
    Unpaired,
    Wanted,
    field_type,
    listable,
    relaxed,
    unfolded,
    unpaired,
    wanted,
    word_characters,
)
from detection_pack.platforms.elastic.esql import EsqlBackend
from detection_pack.platforms.elastic.esql_text import events_query
from detection_pack.platforms.elastic.threshold import parameters
from detection_pack.platforms.elastic.values import FOLDED, text_of

_EVERYTHING = "*:*"


@dataclass(frozen=True)
class ElasticQuery:
    """A rule on Elastic. ``lucene`` is None where only ES|QL can say the correlation; ``threshold`` and
    ``esql`` are None for a plain rule. ``fields``: canonical to platform names of what the alert shows.
    ``state``: the pipeline's, for the log source."""

    lucene: str | None
    threshold: Mapping[str, Any] | None
    esql: str | None
    index: tuple[str, ...]
    fields: Mapping[str, str]
    state: Mapping[str, Any]


class ElasticBackend(LuceneBackend):
    """Lucene query strings with Sigma's meaning."""

    convert_or_as_in: ClassVar[bool] = False

    def convert_rule(self, rule: SigmaRule, *args: Any, **kwargs: Any) -> list[Any]:
        converted: list[Any] = super().convert_rule(rule, *args, **kwargs)
        state = self.last_processing_pipeline.state
        for name in rule.fields:
            if unpaired(name, state) is not None:
                what = "names and values are two lists here, and which value is its own cannot be shown"
                raise RefusedValue(f'"{name}": {what}; show the whole list', name)
            # Which field it is may hang on the rest of the rule, and this rule leaves it open.
            if name in (undecided := state.get("undecided_fields") or {}):
                raise RefusedValue(undecided[name], name)
            field_type(name, state)
        if len(converted) > 1:
            raise RefusedValue("a list of conditions is several rules; write one condition", "condition")
        return converted

    def convert_condition_and(self, cond: ConditionAND, state: ConversionState) -> str:
        parts = [self._part(arg, state) for arg in cond.args]
        positive = [p for p in parts if not p.startswith("NOT ")]
        return " AND ".join(parts if positive else [_EVERYTHING, *parts])

    def convert_condition_or(self, cond: ConditionOR, state: ConversionState) -> str:
        parts: list[str] = []
        lists: list[Condition] = [arg for arg in cond.args if listable(arg)]
        for name, values in unfolded(lists).items():
            parts += self._clauses(name, values, state)
        for arg in cond.args:
            if not listable(arg):
                part = self._part(arg, state)
                parts.append(f"({_EVERYTHING} AND {part})" if part.startswith("NOT ") else part)
        return " OR ".join(parts)

    def convert_condition_not(self, cond: ConditionNOT, state: ConversionState) -> str:
        return f"{_EVERYTHING} AND {self._negation(cond, state)}"

    def convert_condition_field_eq_val(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        if listable(cond):
            name, values = next(iter(unfolded([cond]).items()))
            return _either(self._clauses(name, values, state))
        if (pair := unpaired(cond.field, state.processing_state)) is not None:
            return self._unpaired(pair, cond)
        if word_characters(field_type(cond.field, state.processing_state)) is not None:
            what = f'"{cond.field}" is kept as words; write |contains with a piece of one'
            raise RefusedValue(what, cond.field)
        if isinstance(cond.value, SigmaNull) or (isinstance(cond.value, SigmaExists) and not cond.value):
            return f"({_EVERYTHING} AND NOT _exists_:{_name(cond.field)})"
        field_type(cond.field, state.processing_state)
        return str(super().convert_condition_field_eq_val(cond, state))

    def convert_condition_field_compare_op_val(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        value = cond.value
        assert isinstance(value, SigmaCompareExpression)
        if field_type(cond.field, state.processing_state) not in ("long", "date"):
            raise RefusedValue(f'"{cond.field}" holds no number; text does not compare by size', cond.field)
        return f"{_name(cond.field)}:{self.compare_operators[value.op]}{value.number}"

    def convert_condition_field_eq_field(self, cond: Any, state: ConversionState) -> str:
        raise RefusedValue(
            "Lucene cannot compare two fields, as |fieldref asks; only a correlation can have it, in ES|QL",
            cond.field,
        )

    def convert_condition_val(self, cond: Any, state: ConversionState) -> str:
        raise RefusedValue(
            "a keyword without a field would search every field; name the field", str(cond.value)
        )

    def _part(self, arg: Condition, state: ConversionState) -> str:
        """An operand of AND or OR: atomic, in parentheses, or ``NOT`` and one of those."""
        if isinstance(arg, ConditionNOT):
            return self._negation(arg, state)
        text = str(self.convert_condition(arg, state))
        return f"({text})" if isinstance(arg, ConditionItem) else text

    def _negation(self, cond: ConditionNOT, state: ConversionState) -> str:
        inner = cond.args[0]
        return (
            f"NOT {self._part(inner, state)}"
            if not isinstance(inner, ConditionNOT)
            else (f"NOT ({self.convert_condition(inner, state)})")
        )

    def _clauses(self, name: str, values: Sequence[SigmaType], state: ConversionState) -> list[str]:
        """The OR-ed clauses of one field."""
        if (pair := unpaired(name, state.processing_state)) is not None:
            own = self._clauses(pair.values, values, state)
            if any(clause.startswith(f"({_EVERYTHING}") for clause in own):
                raise RefusedValue("a named value that is empty cannot be told from an absent one", name)
            return [f"({_names(pair)} AND {_either(own)})"]
        out: list[str] = []
        for found in wanted(name, values, state.processing_state):
            out += _said(found)
        return out

    def _unpaired(self, pair: Unpaired, cond: Condition) -> str:
        """Whether a list has a name, where its names and values are two fields."""
        if isinstance(cond.value, SigmaNull) or (isinstance(cond.value, SigmaExists) and not cond.value):
            return f"({_EVERYTHING} AND NOT {_names(pair)})"
        if isinstance(cond.value, SigmaExists):
            return _names(pair)
        what = "names and values are two lists here, which compare with plain values alone"
        raise RefusedValue(f'"{cond.field}": {what}', cond.field)


class ThresholdBackend(ElasticBackend):
    """The base query of a Kibana threshold rule: field comparisons left out, so that it finds a superset."""

    correlation_methods: ClassVar[dict[str, str]] = {"default": "Kibana threshold rule"}
    default_correlation_method: ClassVar[str] = "default"

    _depth = 0

    def convert_condition(self, cond: Any, state: ConversionState) -> str:
        if self._depth == 0:
            cond = relaxed(cond)
            if isinstance(cond, bool):
                raise RefusedValue("nothing is left of the rule without its field comparison", "condition")
        self._depth += 1
        try:
            return str(super().convert_condition(cond, state))
        finally:
            self._depth -= 1

    def convert_correlation_rule(self, rule: SigmaCorrelationRule, *args: Any, **kwargs: Any) -> list[str]:
        found = [str(q) for ref in rule.rules or () for q in ref.rule.get_conversion_result()]
        return [found[0] if len(found) == 1 else " OR ".join(f"({q})" for q in found)]


def queries(rule: Rule, pipeline: Pipeline) -> ElasticQuery:
    """A rule file on Elastic. Raises `PackError` where neither Lucene nor ES|QL can say it."""
    if rule.correlation is None:
        plain = convert(rule, pipeline, ElasticBackend)
        return ElasticQuery(plain.queries[0], None, None, _index(plain.state), plain.fields, plain.state)
    exact = convert(rule, pipeline, EsqlBackend, source=rule)
    threshold = parameters(rule.correlation, exact.fields, exact.state)
    if rule.main.data["correlation"].get("aliases"):
        threshold = None  # Kibana groups by fields of the documents
    lucene = None
    if threshold is not None:
        try:
            lucene = convert(rule, pipeline, ThresholdBackend).queries[0]
        except PackError:
            threshold = None  # the exact ES|QL stands alone
    return ElasticQuery(lucene, threshold, exact.queries[0], _index(exact.state), exact.fields, exact.state)


def events_esql(rule: Rule, pipeline: Pipeline) -> str:
    """A plain rule's events as ES|QL. Raises `PackError` where it cannot be said."""
    found = convert(rule, pipeline, EsqlBackend, source=rule)
    return events_query(rule, found.state, found.queries[0], found.fields)


def _index(state: Mapping[str, Any]) -> tuple[str, ...]:
    stated = state.get("index") or ["*"]
    return tuple(map(str, stated if isinstance(stated, list) else [stated]))


def _said(found: Wanted) -> list[str]:
    name = _name(found.field)
    out: list[str] = []
    if found.empty:
        # An empty value is dropped on its way in: what was empty is absent.
        out.append(f"({_EVERYTHING} AND NOT _exists_:{name})")
    terms = [_term(text) for text in found.plain]
    terms += [f'"{n}"' if "/" not in n else n.replace(":", r"\:").replace("/", r"\/") for n in found.networks]
    terms += [text if text.isalnum() else _quoted(text) for text in found.literals]
    if terms:
        out.append(f"{name}:{terms[0]}" if len(terms) == 1 else f"{name}:({' OR '.join(terms)})")
    folded = [t for t in map(text_of, found.folded) if t]
    try:
        nodes = pack(folded, FOLDED)
    except TooLarge as error:
        what = f'a value of "{found.field}" is too long for an Elasticsearch regular expression'
        raise RefusedValue(what, max(folded, key=len)) from error
    return out + [f"{name}:/{_terminated(render(node))}/" for node in (*nodes, *found.nodes)]


def _names(pair: Unpaired) -> str:
    return f"{_name(pair.names)}:{_term(pair.key)}"


def _either(clauses: Sequence[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"({' OR '.join(clauses)})"


def _term(text: str) -> str:
    """A whole value: bare where it is one ASCII word that is no operator, quoted elsewhere."""
    bare = text.isascii() and text.isalnum() and text not in ("AND", "OR", "NOT", "TO")
    return text if bare else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _terminated(regex: str) -> str:
    """The query parser takes ``\\/`` for an escaped slash: an expression must not end in a backslash."""
    return regex[:-2] + "[\\\\]" if regex.endswith("\\\\") else regex


def _name(field: str) -> str:
    """A field name in a query string; the pipeline's names need no more than this."""
    return "".join(c if c.isalnum() or c in "._@" else "\\" + c for c in field)

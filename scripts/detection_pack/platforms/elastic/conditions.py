"""What both of Elastic's languages share: Sigma values checked against the types of the index mapping."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as listed_in
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
)
from sigma.types import (
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaType,
)

from detection_pack.languages.esql.esql_columns import IGNORE_ABOVE
from detection_pack.languages.lucene.lucene_regex import MAX_LENGTH, fits, render, utf16_length
from detection_pack.languages.lucene.pcre import expression
from detection_pack.languages.regex.regex_tree import Node
from detection_pack.model.refused_value import RefusedValue
from detection_pack.platforms.elastic.values import expressions, text_of
from detection_pack.platforms.terms import file_name

#: pySigma's parsed condition tree; its own types admit parts that parsing has replaced.
Condition = Any

TEXT_TYPES = ("keyword", "wildcard")
_LISTED = (SigmaString, SigmaNumber, SigmaBool, SigmaCIDRExpression, SigmaRegularExpression)


@dataclass
class Wanted:
    """The values of one field, sorted by how a query says them. ``plain`` compare exactly, ``folded`` and
    ``nodes`` without regard to case, ``networks`` are addresses and networks, ``empty`` is the empty text."""

    field: str
    plain: list[str] = listed_in(default_factory=list)
    folded: list[SigmaString] = listed_in(default_factory=list)
    nodes: list[Node] = listed_in(default_factory=list)
    networks: list[str] = listed_in(default_factory=list)
    literals: list[str] = listed_in(default_factory=list)
    empty: bool = False


def field_type(name: str, state: Mapping[str, Any]) -> str:
    """The mapping type of a field; a pipeline that states none leaves everything keyword."""
    types = state.get("field_types")
    if not types:
        return "keyword"
    if name not in types:
        raise RefusedValue(f'field "{name}" has no type in the pipeline ("field_types")', name)
    return str(types[name])


def listable(condition: Condition) -> bool:
    """Whether a condition is a field and a value that can stand in a list."""
    return isinstance(condition, ConditionFieldEqualsValueExpression) and isinstance(
        condition.value, (*_LISTED, SigmaExpansion)
    )


def unfolded(conditions: Sequence[ConditionFieldEqualsValueExpression]) -> dict[str, list[SigmaType]]:
    """The values of each field, in order of first appearance, expansions opened."""
    found: dict[str, list[SigmaType]] = {}
    for condition in conditions:
        value = condition.value
        values = value.values if isinstance(value, SigmaExpansion) else [value]
        found.setdefault(condition.field, []).extend(values)
    return found


def wanted(name: str, values: Sequence[SigmaType], state: Mapping[str, Any]) -> list[Wanted]:
    """The values of one field by the way they are said; a file name moves to the field that holds it."""
    file_names: Mapping[str, str] = state.get("file_name_fields") or {}
    moved = [(file_name(v), v) for v in values] if name in file_names else [(None, v) for v in values]
    names = [SigmaString.from_str(n) for n, _ in moved if n is not None]
    rest = [v for n, v in moved if n is None]
    out = []
    for target, group in ((file_names.get(name, name), names), (name, rest)):
        if group:
            out.append(_sorted_values(target, group, state))
    return out


def _sorted_values(name: str, values: Sequence[SigmaType], state: Mapping[str, Any]) -> Wanted:
    kind = field_type(name, state)
    out = Wanted(name)
    patterns: list[SigmaString] = []
    for value in values:
        if kind in TEXT_TYPES:
            _text_value(out, patterns, value, name in (state.get("exact_fields") or ()))
        elif kind == "ip":
            out.networks.append(_network(name, value))
        elif kind == "boolean":
            out.literals.append(_boolean(name, value))
        elif kind == "long":
            out.literals.append(_number(name, value))
        else:
            what = f'"{name}" holds {kind} and cannot be compared with a value; leave it out'
            raise RefusedValue(what, name)
    if kind == "keyword" and any(utf16_length(text) > IGNORE_ABOVE for text in out.plain):
        what = f'a value of "{name}" is longer than {IGNORE_ABOVE:,} characters, which are not in the index'
        raise RefusedValue(what, max(out.plain, key=len))
    out.nodes += expressions(name, patterns)
    return out


def _text_value(out: Wanted, patterns: list[SigmaString], value: SigmaType, exact: bool) -> None:
    if isinstance(value, SigmaNumber | SigmaBool):
        value = SigmaString(str(value).lower())
    if isinstance(value, SigmaRegularExpression):
        node = expression(out.field, value)
        if not fits(node):
            long = utf16_length(render(node)) > MAX_LENGTH
            limit = f"{MAX_LENGTH} characters as a Lucene expression" if long else "10,000 states"
            what = f"the regular expression is over Elasticsearch's limit of {limit}"
            raise RefusedValue(f"{what}; shorten it, or repeat less", str(value.regexp))
        out.nodes.append(node)
        return
    if not isinstance(value, SigmaString):
        raise RefusedValue(
            f'"{out.field}" holds text and no addresses; write values instead of |cidr', out.field
        )
    text = text_of(value)
    if any("\ud800" <= c <= "\udfff" for part in value.s if isinstance(part, str) for c in part):
        raise RefusedValue("a value holds half of a UTF-16 pair", out.field)
    if text == "":
        out.empty = True
    elif text is None:
        patterns.append(value)
    elif exact or isinstance(value, SigmaCasedString) or text.lower() == text.upper():
        out.plain.append(text)
    else:
        out.folded.append(value)


def _network(name: str, value: SigmaType) -> str:
    if isinstance(value, SigmaCIDRExpression):
        return str(value.network)
    text = text_of(value) if isinstance(value, SigmaString) else None
    try:
        if "%" in (text or ""):
            raise ValueError  # an IPv6 zone may hold any character, a quote too
        return str(ipaddress.ip_address(text or ""))
    except ValueError as error:
        raise RefusedValue(
            f'"{name}" holds addresses: write an address or, with |cidr, a network; wildcards are impossible',
            str(value),
        ) from error


def _boolean(name: str, value: SigmaType) -> str:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise RefusedValue(f'"{name}" is true or false', str(value))
    return text


def _number(name: str, value: SigmaType) -> str:
    text = str(value)
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise RefusedValue(f'"{name}" is a number and cannot be compared with "{text}"; write a number', text)
    return text


def relaxed(condition: Condition, positive: bool = True) -> Condition | bool:
    """``condition`` without its field comparisons, so that it holds wherever the whole one does.

    A comparison in a positive place is taken for true, in a negated place for false: AND, OR and NOT are
    monotonous in their places, so the result is a superset.
    """
    if isinstance(condition, ConditionFieldEqualsValueExpression):
        return positive if isinstance(condition.value, SigmaFieldReference) else condition
    if isinstance(condition, ConditionNOT):
        inner = relaxed(condition.args[0], not positive)
        return (not inner) if isinstance(inner, bool) else ConditionNOT([inner], condition.source)
    if isinstance(condition, ConditionAND | ConditionOR):
        absorbing = isinstance(condition, ConditionOR)
        kept = []
        for arg in condition.args:
            inner = relaxed(arg, positive)
            if inner is absorbing:
                return absorbing
            if not isinstance(inner, bool):
                kept.append(inner)
        if not kept:
            return not absorbing
        return kept[0] if len(kept) == 1 else type(condition)(kept, condition.source)
    return condition

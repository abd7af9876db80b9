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
    SpecialChars,
)

from detection_pack.languages.esql.esql_columns import IGNORE_ABOVE
from detection_pack.languages.lucene.lucene_regex import MAX_LENGTH, fits, render, utf16_length
from detection_pack.languages.lucene.pcre import expression
from detection_pack.languages.regex.regex_tree import Node
from detection_pack.model.refused_value import RefusedValue
from detection_pack.platforms.elastic.values import expressions, text_of
from detection_pack.platforms.named_values import entry_of
from detection_pack.platforms.terms import file_name, whole_term

#: pySigma's parsed condition tree; its own types admit parts that parsing has replaced.
Condition = Any

TEXT_TYPES = ("keyword", "wildcard")
_WORDS = re.compile(r"text\(([-.:$@#/]*)\)")
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
    if unpaired(name, state) is not None:
        what = (
            "names and values are two lists here, and only a query in Lucene, without a correlation, can ask"
        )
        raise RefusedValue(f'"{name}": {what}', name)
    types = state.get("field_types")
    if not types:
        return "keyword"
    if (known := stated_type(types, name)) is None:
        raise RefusedValue(f'field "{name}" has no type in the pipeline ("field_types")', name)
    return known


def stated_type(types: Mapping[str, str], name: str) -> str | None:
    """The type that ``field_types`` states for a field, or for all fields below one of its parents, as
    ``parent.*``; None where it states none."""
    if name in types:
        return str(types[name])
    parts = name.split(".")
    below = (".".join([*parts[:count], "*"]) for count in range(len(parts) - 1, 0, -1))
    return next((str(types[parent]) for parent in below if parent in types), None)


@dataclass(frozen=True)
class Unpaired:
    """A named value of a list whose names and values are two fields: ``key`` is the name that is meant."""

    names: str
    values: str
    key: str


def unpaired(name: str, state: Mapping[str, Any]) -> Unpaired | None:
    """What the state ``unpaired_values`` says of a field; None for one that it does not name."""
    if (found := entry_of(state.get("unpaired_values"), name)) is None:
        return None
    stated, key = found
    return Unpaired(str(stated["name"]), str(stated["value"]), key)


def word_characters(kind: str) -> str | None:
    """What the words of a text field hold besides ASCII letters, digits and ``_``; None for any other type.

    Such a field (``text(-)``) is not kept whole: Elasticsearch cuts it into words in lower case.
    """
    found = _WORDS.fullmatch(kind)
    return found[1] if found else None


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


def wanted(
    name: str, values: Sequence[SigmaType], state: Mapping[str, Any], words: bool = True
) -> list[Wanted]:
    """The values of one field by the way they are said; a file name moves to the field that holds it. Without
    ``words`` a text field is compared as its source has it, whole, which ES|QL does."""
    file_names: Mapping[str, str] = state.get("file_name_fields") or {}
    moved = [(file_name(v), v) for v in values] if name in file_names else [(None, v) for v in values]
    names = [SigmaString.from_str(n) for n, _ in moved if n is not None]
    rest = [v for n, v in moved if n is None]
    out = []
    for target, group in ((file_names.get(name, name), names), (name, rest)):
        if group:
            out.append(_sorted_values(target, group, state, words))
    return out


def _sorted_values(name: str, values: Sequence[SigmaType], state: Mapping[str, Any], words: bool) -> Wanted:
    kind = field_type(name, state)
    more = word_characters(kind)
    out = Wanted(name)
    patterns: list[SigmaString] = []
    for value in values:
        if more is not None and words:
            patterns.append(_piece_of_a_word(name, value, more))
        elif more is not None or kind in TEXT_TYPES:
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


def _piece_of_a_word(name: str, value: SigmaType, more: str) -> SigmaString:
    """The expression of ``|contains`` on a text field.

    A piece of one word is in one word wherever it is in the text. Nothing else is exact: neither where a text
    begins or ends nor what stands between words is kept.
    """
    parts = value.s if isinstance(value, SigmaString) and not isinstance(value, SigmaCasedString) else ()
    many = SpecialChars.WILDCARD_MULTI
    text = parts[1] if len(parts) == 3 and parts[0] == many and parts[2] == many else None
    if not isinstance(text, str) or not re.fullmatch(rf"[A-Za-z0-9_{re.escape(more)}]+", text):
        spelt = " ".join(["letters, digits, _", *more])
        what = f'"{name}" is kept as words of {spelt} in lower case, and this is no piece of a word'
        raise RefusedValue(f"{what}; write |contains with one, or several with |contains|all", str(value))
    if whole_term(value) is not None:  # type: ignore[arg-type]
        what = f'"{name}" is kept as words without what stands beside them; leave whole_terms out'
        raise RefusedValue(what, str(value))
    found = SigmaCasedString("")
    found.s = [many, text.lower(), many]  # an expression of the words as they are kept
    return found


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

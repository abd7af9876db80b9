"""What Sigma means: a rule's detection as a predicate on an event, with no part of pySigma in it.

Written from the Sigma specification 2.1 (rules and modifiers), with what the pack adds: in a rule that says
``whole_terms: true``, ``|contains`` finds whole terms unless the value is a piece of an encoding, is
``|cased``, or holds a wildcard; a field that is empty is a field that is not there; a ``User`` that is
compared whole is compared without its domain. It knows what the corpus of rules uses and raises
`NotImplementedError` for the rest.
"""

from __future__ import annotations

import base64
import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]
Predicate = Callable[[Event], bool]

_DASHES = "-/\u2013\u2014\u2015"
_ANYTHING = ("contains", "startswith", "endswith")


def matcher(detection: Mapping[str, Any], whole_terms: bool = False) -> Predicate:
    """Whether an event is what the detection (selections and ``condition``) describes. ``whole_terms``
    is what the rule says by that key."""
    selections = {
        name: _selection(what, whole_terms) for name, what in detection.items() if name != "condition"
    }
    tokens = re.findall(r"[()]|[^\s()]+", str(detection["condition"]))
    found = _or(tokens, selections)
    if tokens:
        raise NotImplementedError(f"condition: {tokens}")
    return found


# ---- conditions ------------------------------------------------------------------------------------------


def _or(tokens: list[str], selections: Mapping[str, Predicate]) -> Predicate:
    parts = [_and(tokens, selections)]
    while tokens and tokens[0].lower() == "or":
        tokens.pop(0)
        parts.append(_and(tokens, selections))
    return lambda event: any(part(event) for part in parts)


def _and(tokens: list[str], selections: Mapping[str, Predicate]) -> Predicate:
    parts = [_not(tokens, selections)]
    while tokens and tokens[0].lower() == "and":
        tokens.pop(0)
        parts.append(_not(tokens, selections))
    return lambda event: all(part(event) for part in parts)


def _not(tokens: list[str], selections: Mapping[str, Predicate]) -> Predicate:
    token = tokens.pop(0)
    if token.lower() == "not":
        inner = _not(tokens, selections)
        return lambda event: not inner(event)
    if token == "(":
        inner = _or(tokens, selections)
        if tokens.pop(0) != ")":
            raise NotImplementedError("an open bracket")
        return inner
    if token.lower() in ("1", "any", "all") and tokens and tokens[0].lower() == "of":
        tokens.pop(0)
        pattern = tokens.pop(0)
        pattern = "[!_]*" if pattern == "them" else pattern
        chosen = [p for name, p in selections.items() if fnmatch.fnmatchcase(name, pattern)]
        quantifier = all if token.lower() == "all" else any
        return lambda event: quantifier(p(event) for p in chosen)
    return selections[token]


# ---- selections ------------------------------------------------------------------------------------------


def _selection(what: Any, whole_terms: bool) -> Predicate:
    """A mapping: all of its items. A list of mappings: any of them."""
    if isinstance(what, Mapping):
        items = [_item(key, value, whole_terms) for key, value in what.items()]
        return lambda event: all(item(event) for item in items)
    if isinstance(what, Sequence) and not isinstance(what, str):
        parts = [_selection(part, whole_terms) for part in what]
        return lambda event: any(part(event) for part in parts)
    raise NotImplementedError("a keyword")


def _item(key: str, value: Any, whole_terms: bool) -> Predicate:
    field, *modifiers = key.split("|")
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if "exists" in modifiers:
        return lambda event: (event.get(field) not in (None, "")) == bool(value)
    tests = [_value(field, modifiers, v, whole_terms) for v in values]
    quantifier = all if "all" in modifiers else any
    return lambda event: quantifier(test(event.get(field)) for test in tests)


def _value(field: str, modifiers: list[str], value: Any, whole_terms: bool) -> Callable[[Any], bool]:
    if value is None or value == "":
        return lambda held: held in (None, "")
    if unknown := set(modifiers) - {*_ANYTHING, "all", "re", "windash", "base64offset", "wide", "cased"}:
        raise NotImplementedError(f"modifiers {sorted(unknown)}")
    if "re" in modifiers:
        sought = re.compile(str(value))
        return lambda held: held not in (None, "") and sought.search(str(held)) is not None
    pattern = "|".join(f"(?:{text})" for text in _patterns(modifiers, str(value), whole_terms))
    flags = re.DOTALL if "cased" in modifiers else re.DOTALL | re.IGNORECASE
    whole = re.compile(pattern, flags)
    bare = field == "User" and not set(modifiers) & set(_ANYTHING) and "\\" not in str(value)

    def test(held: Any) -> bool:
        if held in (None, ""):
            return False
        text = str(held)
        return whole.fullmatch(text.rpartition("\\")[2] if bare else text) is not None

    return test


def _patterns(modifiers: list[str], value: str, whole_terms: bool) -> Iterator[str]:
    """The expressions of which one must match the whole field."""
    encoded = "base64offset" in modifiers
    parts: list[list[str | None]] = [_parts(value)]
    if encoded:
        data = value.encode("utf-16-le" if "wide" in modifiers else "utf-8")
        parts = [[text] for text in offsets(data)]
    if "windash" in modifiers:
        parts = [_parts(text) for text in _dashed(value)]
    for one in parts:
        # `None` is a run of anything, `?` stands in its text as chr(0).
        text = "".join(".*" if part is None else re.escape(part).replace("\0", ".") for part in one)
        anywhere = "contains" in modifiers
        plain = len(one) == 1 and one[0] is not None and "\0" not in one[0]
        if anywhere and whole_terms and plain and not encoded and "cased" not in modifiers:
            literal = str(one[0])
            if any(c.isalnum() for c in literal):
                before = r"(?<![^\W_])" if literal[0].isalnum() else ""
                after = r"(?![^\W_])" if literal[-1].isalnum() else ""
                yield f".*{before}{text}{after}.*"
                continue
        start = ".*" if anywhere or "endswith" in modifiers else ""
        end = ".*" if anywhere or "startswith" in modifiers else ""
        yield f"{start}{text}{end}"


def _parts(value: str) -> list[str | None]:
    r"""The text between the ``*`` of a value; ``\*``, ``\?`` and ``\\`` are the characters themselves."""
    out: list[str | None] = []
    text = ""
    at = 0
    while at < len(value):
        char = value[at]
        if char == "\\" and at + 1 < len(value) and value[at + 1] in "*?\\":
            text += value[at + 1]
            at += 2
            continue
        if char == "*":
            out += [text, None] if text else [None]
            text = ""
        else:
            text += "\0" if char == "?" else char
        at += 1
    return [*out, text] if text or not out else out


def texts_of(value: str, windash: bool) -> Iterator[str]:
    """Every literal form of a value, with chr(1) for ``*`` and chr(0) for ``?``."""
    for form in _dashed(value) if windash else [value]:
        yield "".join("\1" if part is None else part for part in _parts(form))


def _dashed(value: str) -> Iterator[str]:
    """Every form of a value whose dashes (or slashes) before a word are any of five characters."""
    places = [found.start() for found in re.finditer(r"\B[-/]\b", value)]
    forms = [value]
    for place in places:
        forms = [form[:place] + dash + form[place + 1 :] for form in forms for dash in _DASHES]
    yield from forms


def offsets(data: bytes) -> Iterator[str]:
    """What of the Base64 of ``data`` is the same whatever stands before and after, at each of 3 offsets."""
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + data).decode()
        start = (0, 2, 3)[offset]
        end = len(text) - (0, 3, 2)[(len(data) + offset) % 3]
        yield text[start:end]

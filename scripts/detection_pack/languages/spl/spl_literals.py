r"""Text of a rule as text of SPL, so that no character of it can mean anything else.

Sources: "Backslashes" and "Types of expressions" of Splunk's Search Manual. In a string a backslash is
written twice, and the backslash "can't be used to escape the asterisk in search strings". Backticks call
macros and ``$...$`` is a token of a dashboard or an argument of a macro. Macros inside quoted values are
documented as not expanded ("Use search macros in searches"), but a search is copied into places that have
other rules, so neither character is ever written: in a regular expression they are ``\x60`` and ``\x24``, in
a search comparison a wildcard stands for them and a ``where`` decides.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sigma.types import SigmaString, SpecialChars

from detection_pack.languages.spl.spl_characters import ANY_CHARACTER, literal
from detection_pack.model.refused_value import RefusedValue

#: The ends of the whole value. ``$`` would also match before a last line break.
VALUE_START = r"\A"
VALUE_END = r"\z"

Part = str | SpecialChars

_SEARCH_WILDCARD = re.compile(r"[*`$]|[^\x20-\x7e]")
#: Numbers are compared as numbers wherever both sides look like one, so "01" would equal "1".
NUMBER_LIKE = re.compile(
    r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*|\s*0[xX][0-9a-fA-F]+\s*|\s*[-+]?(?:inf(?:inity)?|nan)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Alternative:
    """One way to match a value: a regular expression with what must stand at its two ends."""

    left: str
    body: str
    right: str
    dots: bool = False


def parts_of(value: SigmaString, subject: str) -> tuple[Part, ...]:
    """The parts of a value; a placeholder that no pipeline has filled is refused."""
    parts: list[Part] = []
    for part in value.s:
        if not isinstance(part, str | SpecialChars):
            raise RefusedValue("a placeholder of this value has not been replaced", subject)
        if isinstance(part, str) and any("\ud800" <= c <= "\udfff" for c in part):
            raise RefusedValue("a value holds half of a surrogate pair", subject)
        parts.append(part)
    return tuple(parts)


def alternative(parts: Sequence[Part], cased: bool) -> Alternative:
    """The whole value as a regular expression; a wildcard at an end needs no anchor there."""
    left, right = VALUE_START, VALUE_END
    rest = _in_order(parts)
    if rest and rest[0] == SpecialChars.WILDCARD_MULTI:
        left, rest = "", rest[1:]
    if rest and rest[-1] == SpecialChars.WILDCARD_MULTI:
        right, rest = "", rest[:-1]
    wild = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: ANY_CHARACTER}
    body = "".join(literal(p, cased) if isinstance(p, str) else wild[p] for p in rest)
    return Alternative(left, body, right, any(not isinstance(p, str) for p in rest))


def _in_order(parts: Sequence[Part]) -> list[Part]:
    """Within a run of wildcards those of one character first: ``.*`` may end in the middle of one."""
    out: list[Part] = []
    for is_text, run in itertools.groupby(parts, lambda part: isinstance(part, str)):
        members = list(run)
        out += members if is_text else sorted(members, key=lambda p: p == SpecialChars.WILDCARD_MULTI)
    return out


def pattern(alternatives: Sequence[Alternative], cased: bool) -> str:
    """One regular expression for all alternatives, those with equal ends grouped, in order."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in alternatives:
        groups.setdefault((one.left, one.right), []).append(one.body)
    texts = [
        left + (bodies[0] if len(bodies) == 1 else f"(?:{'|'.join(dict.fromkeys(bodies))})") + right
        for (left, right), bodies in groups.items()
    ]
    flags = ("" if cased else "i") + ("s" if any(a.dots for a in alternatives) else "")
    whole = texts[0] if len(texts) == 1 else f"(?:{'|'.join(texts)})"
    return f"(?{flags}){whole}" if flags else whole


def search_text(parts: Sequence[Part]) -> tuple[str, bool]:
    """A quoted comparison value of ``search`` and whether it says exactly what the parts say.

    A character that cannot be written there becomes a wildcard, which finds more, never less. That holds
    for characters beyond ASCII too: which letters ``search`` folds is not documented.
    """
    exact, text = True, ""
    for part in parts:
        if isinstance(part, str):
            escaped = part.replace("\\", "\\\\").replace('"', '\\"')
            exact = exact and not _SEARCH_WILDCARD.search(escaped) and not NUMBER_LIKE.fullmatch(part)
            text += _SEARCH_WILDCARD.sub("*", escaped)
        else:
            exact = exact and part == SpecialChars.WILDCARD_MULTI
            text += "*"
    return '"' + re.sub(r"\*{2,}", "*", text) + '"', exact


def regex_literal(regex: str) -> str:
    """An expression without quotes as an eval expression; what cannot be seen is decoded by `urldecode`."""
    pieces = []
    for shown, run in itertools.groupby(regex, str.isprintable):
        text = "".join(run)
        encoded = "".join(f"%{byte:02X}" for byte in text.encode())
        pieces.append(f'"{text}"' if shown else f'urldecode("{encoded}")')
    return ".".join(pieces) or '""'


def eval_string(text: str) -> str:
    """An eval expression whose value is ``text``.

    What cannot stand in a string, or cannot be seen there, is decoded by `urldecode` (Search Reference, "Text
    functions").
    """
    pieces = []
    for plain, run in itertools.groupby(text, lambda c: c.isprintable() and c not in "`$"):
        piece = "".join(run)
        if plain:
            pieces.append('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"')
        else:
            encoded = "".join(f"%{byte:02X}" for byte in piece.encode("utf-8", "replace"))
            pieces.append(f'urldecode("{encoded}")')
    return ".".join(pieces) or '""'


def eval_field(name: str) -> str:
    """A field name in eval and where: in single quotes unless it is letters, digits and underscores."""
    if "'" in name or "`" in name or "\\" in name:
        raise RefusedValue(f'the field name "{name}" cannot be written in SPL', name)
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"'{name}'"


def search_field(name: str) -> str:
    """A field name in search, stats and table: in double quotes unless it is plain."""
    if '"' in name or "`" in name or "\\" in name:
        raise RefusedValue(f'the field name "{name}" cannot be written in SPL', name)
    return name if re.fullmatch(r"[\w.]+", name, re.ASCII) else f'"{name}"'

"""What a value of a rule asks for in the words of every platform: a whole term, or a file by its name.

Whole terms are those of KQL's ``has``; the other languages lack them.

A term is a run of letters and digits. ``has "Search-Mailbox"`` finds the text where no letter or digit
touches either end of it; an end of the value that is itself neither letter nor digit (``curl/``) has no
neighbour to mind. Source: the Kusto documentation of string operators ("What is a term?"), and
duckdb-kql's measurements on the Kusto emulator for the edges.
"""

from __future__ import annotations

from dataclasses import dataclass

from sigma.types import SigmaCasedString, SigmaString, SigmaType, SpecialChars

#: The attribute that marks a value to find as whole terms (`conversion.mark_whole_terms`).
WHOLE_TERMS = "finds_whole_terms"


@dataclass(frozen=True)
class WholeTerm:
    """A value to find as whole terms: the text, and which of its ends need a boundary."""

    text: str
    bounded_left: bool
    bounded_right: bool


def whole_term(value: SigmaString) -> WholeTerm | None:
    """The whole term that a ``|contains`` value of a rule with ``whole_terms: true`` asks for; None for any
    other value.

    ``*text*`` with no further wildcard is such a value, if it is marked as one. A text without any letter or
    digit has no term in it and is left to substring matching.
    """
    parts = value.s
    if not getattr(value, WHOLE_TERMS, False):
        return None
    if len(parts) != 3 or parts[0] != SpecialChars.WILDCARD_MULTI or parts[2] != SpecialChars.WILDCARD_MULTI:
        return None
    text = parts[1]
    if not isinstance(text, str) or not any(c.isalnum() for c in text):
        return None
    return WholeTerm(text, text[0].isalnum(), text[-1].isalnum())


def file_name(value: SigmaType) -> str | None:
    r"""``x.exe`` of the value ``*\x.exe``, which a field with names of files holds; None for any other.

    A cased value stays where it is: nothing says that such a field keeps the letter case of the path.
    """
    if not isinstance(value, SigmaString) or isinstance(value, SigmaCasedString) or len(value.s) != 2:
        return None
    first, text = value.s
    if first != SpecialChars.WILDCARD_MULTI or not isinstance(text, str) or not text.startswith("\\"):
        return None
    return text[1:] if text[1:] and "\\" not in text[1:] and "/" not in text[1:] else None


def marked(value: SigmaString) -> SigmaString:
    """The value, marked to be found as whole terms."""
    setattr(value, WHOLE_TERMS, True)
    return value

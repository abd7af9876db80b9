"""The values of a new rule in the forms in which its events hold them, the placeholders included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detection_pack.model.findings import PackError
from detection_pack.model.placeholders import MARKER, is_placeholder

#: Forms that a value that is a placeholder is asked for only if there are too few cases without them.
CUT = ("tailless", "headless", "head", "tail")
#: What a rule and its events hold where the value is still a placeholder, by form. None begins like another,
#: so that each can be replaced everywhere at once.
UNFILLED = {
    "value": f"{MARKER}-VALUE",
    **{form: f"{MARKER}-{form.upper()}-VALUE" for form in ("lower", "upper", "mixed", *CUT)},
}
#: What a placeholder is taken for where a verdict depends on it: two words, a letter at each end.
_STAND_IN = "Stand-In"
#: A wildcard that stands on fewer literal characters is slow everywhere; a value is held to the same.
LEAST_CHARACTERS = 3


@dataclass(frozen=True)
class Value:
    """A value by its forms: as it is written into the events, and as the verdicts are worked out from it."""

    written: Mapping[str, str]
    meant: Mapping[str, str]

    @property
    def placeholder(self) -> bool:
        return is_placeholder(self.written["value"])


def forms_of(text: str) -> dict[str, str]:
    """The forms of a value; letter case varies in ASCII alone, which every platform folds alike."""
    half = len(text) // 2
    return {
        "value": text,
        "lower": "".join(c.lower() if c.isascii() else c for c in text),
        "upper": "".join(c.upper() if c.isascii() else c for c in text),
        "mixed": "".join(
            (c.upper() if i % 2 else c.lower()) if c.isascii() else c for i, c in enumerate(text)
        ),
        "tailless": text[:-1],
        "headless": text[1:],
        "head": text[:half],
        "tail": text[half:],
    }


def values_of(texts: Sequence[str]) -> tuple[Value, ...]:
    """The values of a rule, each once; the placeholder for none. Raises `PackError`."""
    for text in texts:
        _check(text)
    if not texts:
        return (Value(UNFILLED, forms_of(_STAND_IN)),)
    return tuple(Value(forms_of(text), forms_of(text)) for text in dict.fromkeys(texts))


def _check(text: str) -> None:
    if (complaint := unusable(text)) is not None:
        what, todo = complaint
        raise PackError.at("--value", 1, f'"{text}" {what}', todo)


def unusable(text: str) -> tuple[str, str] | None:
    """Why a text cannot be a value of a new rule, and what to do; None for one that can."""
    if not text.isprintable() or text != text.strip():
        what = "holds what cannot be printed, or spaces around it"
        todo = "leave out --value and write it into the rule"
    elif "*" in text or "?" in text:
        what, todo = "holds a wildcard", "give the plain text, and write the wildcard into the rule"
    elif is_placeholder(text):
        what, todo = "is the mark of a placeholder", "leave out --value for a placeholder"
    elif sum(character.isalnum() for character in text) < LEAST_CHARACTERS:
        what, todo = f"has fewer than {LEAST_CHARACTERS} letters and digits", "give a longer text"
    else:
        return None
    return what, todo

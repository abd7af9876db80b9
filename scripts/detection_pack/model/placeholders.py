"""Blanks: the marked places in a new rule that its author fills in."""

from __future__ import annotations

#: What ``new`` writes where only the author knows the value, followed by what belongs there.
MARKER = "FILL-IN"


def is_blank(value: object) -> bool:
    """Whether the text contains the marker. What is no text is no blank."""
    return isinstance(value, str) and MARKER in value


def said_of(line: str) -> str:
    """What a finding says of a line with the marker in it."""
    about = line.partition(MARKER)[2].strip(" :\"'},]")
    return f"is a blank: {about}" if about else "is a blank"

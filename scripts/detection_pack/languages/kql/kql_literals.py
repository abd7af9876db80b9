"""KQL literals that no value can break out of."""

from __future__ import annotations

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def kql_string(text: str) -> str:
    """A quoted KQL string with escapes; characters that cannot be shown are written as ``\\uXXXX``."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _unicode(c)) for c in text) + '"'


def kql_verbatim(text: str) -> str:
    """A verbatim KQL string (``@"…"``) for patterns; an escaped one where a line end forbids it."""
    if all(c.isprintable() for c in text):
        return '@"' + text.replace('"', '""') + '"'
    return kql_string(text)


def kql_comment(text: str) -> str:
    """One comment line; nothing in the text can end the line early."""
    return "// " + "".join(c if c.isprintable() else " " for c in text)


def _unicode(character: str) -> str:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{encoded[i]:02x}{encoded[i + 1]:02x}" for i in range(0, len(encoded), 2))

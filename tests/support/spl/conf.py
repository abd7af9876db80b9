"""Splunk's .conf files, as far as an app's searches, macros and lookups need them.

Admin Manual, "About configuration files" and "Configuration file structure": stanzas in brackets, one
``attribute = value`` a line; "Set up a multi-line value": a backslash at the end of a line continues it.
"""

from __future__ import annotations


def stanzas(text: str) -> dict[str, dict[str, str]]:
    """Attributes by stanza; a continued value keeps its line breaks."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    lines = iter(text.split("\n"))
    for first in lines:
        line = first
        while line.endswith("\\"):
            line = line[:-1] + "\n" + next(lines)
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.startswith("[") and stripped.endswith("]"):
            current = found.setdefault(stripped[1:-1], {})
            continue
        name, equals, value = line.partition("=")
        if current is None or not equals:
            raise ValueError(f"not a line of a .conf file: {line[:60]!r}")
        current[name.strip()] = value.strip()
    return found

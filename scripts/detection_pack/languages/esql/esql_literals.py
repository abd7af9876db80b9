"""ES|QL's string literals in DuckDB's terms."""

from __future__ import annotations

import re


def string_of(token: object) -> str:
    escapes = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
    return re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[0]), str(token)[1:-1])


def sql_string(text: str) -> str:
    if "\0" in text:
        return " || chr(0) || ".join(f"'{part}'" for part in text.replace("'", "''").split("\0"))
    return "'" + text.replace("'", "''") + "'"

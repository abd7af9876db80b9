"""ES|QL's string literals and RLIKE patterns in DuckDB's terms."""

from __future__ import annotations

import re

_LUCENE_OPERATORS = '#@&<>~"'


class Inexact(Exception):
    """A pattern that RE2 cannot say exactly."""


def string_of(token: object) -> str:
    escapes = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
    return re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[0]), str(token)[1:-1])


def sql_string(text: str) -> str:
    if "\0" in text:
        return " || chr(0) || ".join(f"'{part}'" for part in text.replace("'", "''").split("\0"))
    return "'" + text.replace("'", "''") + "'"


def re2_of_lucene(pattern: str) -> str:
    """A Lucene regular expression as RE2; raises `Inexact` for its extra operators."""
    out, at, in_class = [], 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            following = pattern[at + 1]
            if following.isascii() and following.isalnum():
                raise Inexact(f"\\{following}")
            out.append("\\" + following if following.isascii() else following)
            at += 2
            continue
        if not in_class and char in _LUCENE_OPERATORS:
            raise Inexact(f"the operator {char}")
        if in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
            if pattern[at + 1 : at + 2] == "^":
                out.append("[")
                char, at = "^", at + 1
        elif char in "^$":
            char = "\\" + char
        out.append(char)
        at += 1
    return "".join(out)

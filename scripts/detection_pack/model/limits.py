"""What a rule file may hold at most: checked before anything expensive is done with it.

A rule comes from a stranger, and several things that a rule can say grow faster than its text: every file is
parsed, converted three times and measured, so a bound on each of them is what bounds the time of a build.
Each limit is far above any rule that the three platforms could take: Sentinel's query has 10,000 characters
at most ("Service limits for Microsoft Sentinel"), Elasticsearch 1,024 clauses (`indices.query.bool.
max_clause_count`) and 1,000 characters of a regular expression.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any

from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import PackError

#: Bytes of a rule file. The YAML parser and the index of lines take about a second for a megabyte.
MAX_RULE_BYTES = 256 * 1024
#: Values and field names of all detections of a file, ``|windash`` and a repeated ``1 of`` counted out. A
#: Sentinel query of 10,000 characters holds fewer; Elasticsearch takes 1,024 clauses.
MAX_VALUES = 1_000
#: Characters of one value: what Sentinel takes of a whole query.
MAX_VALUE_LENGTH = 10_000
#: Characters of a condition: pySigma's parser takes a second for 10,000.
MAX_CONDITION_LENGTH = 2_000
#: Asterisks in one value. Splunk's regular expressions backtrack: the time grows with the text's length to
#: the power of this number.
MAX_WILDCARDS = 12
#: A correlation's threshold: a number that every platform takes for a whole one.
MAX_COUNT = 1_000_000_000

#: What pySigma's ``|windash`` takes for a parameter's dash, and the number of dashes that it tries for each.
_DASH = re.compile(r"\B[-/]\b")
_DASHES = 5
_WILDCARD = re.compile(r"\\.|\*", re.DOTALL)
_WORD = re.compile(r"[^\s()|]+")


def check_limits(documents: tuple[Document, ...]) -> None:
    """Refuse a file of rules that is larger than this. Raises `PackError` with the line."""
    total = 0
    for document in documents:
        detection = document.data.get("detection")
        if not isinstance(detection, dict):
            continue
        sizes = {}
        for name, selection in detection.items():
            if name in ("condition", "timeframe"):
                continue
            sizes[str(name)] = size = sum(_size(document, *found) for found in _leaves(selection, name))
            total += size
        read = max([total, *(_read(document, sizes, text) for text in _conditions(document))])
        if read > MAX_VALUES:
            raise PackError.at(
                document.path,
                document.line("detection"),
                f"compares with {read:,} values; {MAX_VALUES:,} are allowed in a file",
                "split the rule",
            )


def _leaves(value: Any, *keys: Key) -> Iterator[tuple[tuple[Key, ...], Any]]:
    """Every value below a selection with the keys that lead to it."""
    stack: list[tuple[tuple[Key, ...], Any]] = [(keys, value)]
    while stack:
        path, current = stack.pop()
        if isinstance(current, dict):
            stack += [((*path, key), inner) for key, inner in current.items()]
        elif isinstance(current, list):
            stack += [((*path, index), inner) for index, inner in enumerate(current)]
        else:
            yield path, current


def _size(document: Document, path: tuple[Key, ...], value: Any) -> int:
    """How many values a platform compares with for this one. Raises `PackError` for one that cannot be."""
    text = str(value)
    line = document.line("detection", *path)
    if len(text) > MAX_VALUE_LENGTH:
        what = f"has a value of {len(text):,} characters; {MAX_VALUE_LENGTH:,} are allowed"
        raise PackError.at(document.path, line, what, "shorten it")
    modifiers = {part for key in path[1:] if isinstance(key, str) for part in key.split("|")[1:]}
    if "re" not in modifiers:
        wild = _WILDCARD.findall(text).count("*")
        if wild > MAX_WILDCARDS:
            what = f"has a value with {wild} wildcards; {MAX_WILDCARDS} are allowed"
            raise PackError.at(document.path, line, what, "leave some out")
    if (modifiers & {"base64", "base64offset"} and re.search(r"[*?]", text)) or (
        "base64offset" in modifiers and not text.isascii()
    ):
        # pySigma encodes the backslash of an escaped wildcard too, and cuts at an offset by the number of
        # characters, not of bytes: what comes out misses events, or finds others.
        what = "encodes a character that comes out wrong (*, ?, or at any offset one beyond ASCII)"
        raise PackError.at(document.path, line, what, "write the encoding out as the value")
    if "windash" in modifiers:
        # More than ten dashes are beyond any limit; the power of a long text would itself take long.
        return int(_DASHES ** min(len(_DASH.findall(text)), 10))
    return 3 if "base64offset" in modifiers else 1


def _conditions(document: Document) -> list[str]:
    """The conditions of a rule as text. Raises `PackError` where one is too long, or none."""
    stated = document.data["detection"].get("condition", [])
    listed: list[str] = stated if isinstance(stated, list) else [stated]
    if not all(isinstance(text, str) for text in listed):
        line = document.line("detection", "condition")
        raise PackError.at(document.path, line, "has a condition that is no text", "name its selections")
    length = sum(map(len, listed))
    if length > MAX_CONDITION_LENGTH:
        what = f"has a condition of {length:,} characters; {MAX_CONDITION_LENGTH:,} are allowed"
        raise PackError.at(document.path, document.line("detection", "condition"), what, "split the rule")
    return listed


def _read(document: Document, sizes: Mapping[str, int], condition: str) -> int:
    """How many values a condition compares with: a selection that it names twice counts twice."""
    everything = sum(sizes.values())
    total = 0
    for word in _WORD.findall(condition):
        if word == "them":
            total += everything
        elif "*" in word:
            total += sum(size for name, size in sizes.items() if fnmatch.fnmatchcase(name, word))
        else:
            total += sizes.get(word, 0)
    return total

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import Finding

#: Bytes of a rule file. The YAML parser and the index of lines take about a second for a megabyte.
MAX_RULE_BYTES = 256 * 1024
#: Values and field names of all detections of a file, ``|windash`` and a repeated ``1 of`` counted out. A
#: Sentinel query of 10,000 characters holds fewer; Elasticsearch takes 1,024 clauses.
MAX_VALUES = 1_000
#: Characters of one value: what Sentinel takes of a whole query.
MAX_VALUE_LENGTH = 10_000
#: Characters of a condition: pySigma's parser takes a second for 10,000.
MAX_CONDITION_LENGTH = 2_000
#: Characters of a selection's name and asterisks of a pattern for names: pySigma backtracks through the one
#: for the other, in time to the power of this number.
MAX_NAME_LENGTH = 200
MAX_PATTERN_WILDCARDS = 3
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


def limit_faults(documents: Iterable[Document]) -> Iterator[Finding]:
    """Whatever makes a file of rules larger than this. Where there is any, looking for other faults takes
    longer than a build."""
    total = most = 0
    about: Document | None = None
    for document in documents:
        detection = document.data.get("detection")
        if not isinstance(detection, dict):
            continue
        about = about or document
        sizes = {}
        said: set[tuple[int, str]] = set()
        for name, selection in detection.items():
            if name in ("condition", "timeframe"):
                continue
            if len(str(name)) > MAX_NAME_LENGTH:
                what = f"has a selection with a name of {len(str(name)):,} characters; {MAX_NAME_LENGTH} are"
                what += " allowed"
                yield _beyond(document, ("detection", name), what, "shorten it")
            sizes[str(name)] = 0
            for place, value in _leaves(selection, name):
                modifiers = [m for key in place[1:] if isinstance(key, str) for m in key.split("|")[1:]]
                for what, todo in _faults(str(value), modifiers):
                    fault = _beyond(document, ("detection", *place), what, todo)
                    if (fault.line, what) not in said:
                        yield fault
                    said.add((fault.line, what))
                sizes[str(name)] += _size(str(value), modifiers)
        total += sum(sizes.values())
        conditions = _conditions(document)
        yield from _condition_faults(document, conditions)
        read = [_read(sizes, text) for text in conditions if len(text) <= MAX_CONDITION_LENGTH]
        if max([total, *read]) > max(most, MAX_VALUES):
            most, about = max([total, *read]), document
    if most and about is not None:
        what = f"compares with {most:,} values; {MAX_VALUES:,} are allowed in a file"
        yield _beyond(about, ("detection",), what, "split the rule")


def _beyond(document: Document, place: tuple[Key, ...], what: str, todo: str) -> Finding:
    return Finding(str(document.path_of(*place)), document.line(*place), what, todo)


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


def _faults(text: str, modifiers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """``(what is wrong, what to do)`` of a value with these modifiers, which may be of several keys."""
    repeated = next((name for n, name in enumerate(modifiers) if name in modifiers[:n]), None)
    if repeated is not None:
        # Each |base64offset gives three values for one, each |wide doubles a value's length.
        yield f'has the modifier "{repeated}" more than once', "write it once"
    if len(text) > MAX_VALUE_LENGTH:
        yield f"has a value of {len(text):,} characters; {MAX_VALUE_LENGTH:,} are allowed", "shorten it"
    wild = _WILDCARD.findall(text).count("*") if "re" not in modifiers else 0
    if wild > MAX_WILDCARDS:
        yield f"has a value with {wild} wildcards; {MAX_WILDCARDS} are allowed", "leave some out"
    encoded = "base64offset" in modifiers or "base64" in modifiers
    if (encoded and re.search(r"[*?]", text)) or ("base64offset" in modifiers and not text.isascii()):
        # pySigma encodes the backslash of an escaped wildcard too, and cuts at an offset by the number of
        # characters, not of bytes: what comes out misses events, or finds others.
        what = "encodes a character that comes out wrong (*, ?, or at any offset one beyond ASCII)"
        yield what, "write the encoding out as the value"


def _size(text: str, modifiers: Sequence[str]) -> int:
    """How many values a platform compares with for this one."""
    # More than ten dashes are beyond any limit; the power of a long text would itself take long.
    dashes = min(len(_DASH.findall(text)), 10) if "windash" in modifiers else 0
    return int(_DASHES**dashes) * (3 if "base64offset" in modifiers else 1)


def _conditions(document: Document) -> list[str]:
    """The conditions of a rule that are text."""
    stated = document.data["detection"].get("condition", [])
    return [text for text in (stated if isinstance(stated, list) else [stated]) if isinstance(text, str)]


def _condition_faults(document: Document, conditions: Sequence[str]) -> Iterator[Finding]:
    place = ("detection", "condition")
    length = sum(map(len, conditions))
    if length > MAX_CONDITION_LENGTH:
        what = f"has a condition of {length:,} characters; {MAX_CONDITION_LENGTH:,} are allowed"
        yield _beyond(document, place, what, "split the rule")
    wild = max((word.count("*") for text in conditions for word in _WORD.findall(text)), default=0)
    if wild > MAX_PATTERN_WILDCARDS:
        what = f"has {wild} wildcards in the name of selections; {MAX_PATTERN_WILDCARDS} are allowed"
        yield _beyond(document, place, what, "leave some out")


def _read(sizes: Mapping[str, int], condition: str) -> int:
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

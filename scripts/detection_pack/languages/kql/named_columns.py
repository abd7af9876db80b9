"""Whether a KQL query names every column that it reads.

Of a table with a hundred columns such a query needs those that its text names, and no others. It is said of
the operators that the pack writes, a ``project`` or a ``summarize`` last; of any other query it is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_ASIDE = re.compile(r"""@"(?:[^"]|"")*"|"(?:[^"\\\n]|\\.)*"|@'(?:[^']|'')*'|'(?:[^'\\\n]|\\.)*'|//[^\n]*""")
_OPERATOR = re.compile(r"\|\s*([\w-]*)")
_KNOWN = {"where", "extend", "project", "summarize", "mv-expand", "sort"}
#: These say what the columns of the result are; after them it may be narrowed or sorted.
_SAYING, _LEAVING = {"project", "summarize"}, {"where", "sort"}
_UNNAMED = re.compile(r"\b(?:search|find|union|pack_all|evaluate|invoke|datatable)\b|```|~~~")
_TIMES = re.compile(r"(\w+|[)\]])\s*\*\s*(?=[\w(])")
#: Before an asterisk that stands for every column.
_BEFORE_ALL = {"distinct", "where", "and", "or", "not", "by", "with"}


def named_columns(text: str, columns: Iterable[str], aside: str = "") -> list[str]:
    """The columns that the query reads, and perhaps more: those that it names, without regard to case, or all
    where it may read others. ``aside`` is further text that names columns."""
    if not names_its_columns(text):
        return list(columns)
    # A join numbers what both sides have, so that a name may stand in a longer one.
    folded = (text + aside).lower()
    return [name for name in columns if name.lower() in folded]


@lru_cache(maxsize=256)
def names_its_columns(text: str) -> bool:
    """Whether nothing in the query stands for columns that it does not name, its result least of all."""
    said = bare(text)
    if _UNNAMED.search(said) or not set(_OPERATOR.findall(said)) <= _KNOWN:
        return False
    if said.count("*") != sum(found[1] not in _BEFORE_ALL for found in _TIMES.finditer(said)):
        return False
    last = [found[1] for found in _OPERATOR.finditer(_outside_brackets(said.strip().rpartition(";")[2]))]
    while last and last[-1] in _LEAVING:
        last.pop()
    return bool(last) and last[-1] in _SAYING


def bare(text: str) -> str:
    """The query with an empty string in place of each string, and without comments."""
    return _ASIDE.sub(lambda found: "" if found[0].startswith("//") else '""', text)


def _outside_brackets(text: str) -> str:
    depth, found = 0, []
    for part in re.split(r"([()])", text):
        depth += (part == "(") - (part == ")")
        if depth == 0:
            found.append(part)
    return "".join(found)

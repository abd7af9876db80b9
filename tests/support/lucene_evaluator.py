"""Lucene query strings from the other side: made from a tree, and judged on the tree by plain Python.

It shares nothing with `languages.lucene`: what a query means is said here once more, from Elasticsearch's
documentation, over documents that are dictionaries of lists of values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from detection_pack.languages.lucene.lucene_regex import render
from detection_pack.languages.regex.regex_tree import LAST, Alt, Chars, Node, Repeat, Seq, fold, ranges

Values = Mapping[str, Sequence[Any]]

#: The fields of the generated documents; `unmapped` is in no document.
TYPES = {"k": "keyword", "m": "keyword", "w": "wildcard", "a": "ip", "n": "long", "b": "boolean"}
MAPPING: dict[str, Any] = {
    "mappings": {
        "properties": {name: {"type": kind} for name, kind in TYPES.items() if name not in ("k", "w")}
        | {"k": {"type": "keyword", "ignore_above": 6}, "w": {"type": "wildcard"}}
    }
}
IGNORED_ABOVE = {"k": 6}


@dataclass(frozen=True)
class Leaf:
    """``text`` is the clause as written; ``kind`` and ``value`` are what it asks."""

    field: str
    kind: str
    value: Any
    text: str


@dataclass(frozen=True)
class Flat:
    """Clauses as they stand side by side: (AND, OR or nothing before the first; whether NOT; the clause)."""

    clauses: tuple[tuple[str, bool, Leaf | Flat], ...]


Tree = Leaf | Flat


def written(tree: Tree, top: bool = True) -> str:
    if isinstance(tree, Leaf):
        return tree.text
    parts = []
    for conjunction, negated, inner in tree.clauses:
        words = [conjunction] if conjunction else []
        parts += [*words, *(["NOT"] if negated else []), written(inner, False)]
    text = " ".join(parts)
    return text if top else f"({text})"


def holds(tree: Tree, document: Values) -> bool:
    if isinstance(tree, Leaf):
        return tree.kind == "everything" or any(_is(tree, v) for v in _indexed(tree.field, document))
    clauses = tree.clauses
    needed, optional = [], []
    for at, (conjunction, negated, inner) in enumerate(clauses):
        found = holds(inner, document)
        beside_and = conjunction == "AND" or (at + 1 < len(clauses) and clauses[at + 1][0] == "AND")
        if negated:
            needed.append(not found)
        elif beside_and:
            needed.append(found)
        else:
            optional.append(found)
    compulsory = any(
        not negated and (c == "AND" or (at + 1 < len(clauses) and clauses[at + 1][0] == "AND"))
        for at, (c, negated, _) in enumerate(clauses)
    )
    return all(needed) and (compulsory or not optional or any(optional))


def _indexed(field: str, document: Values) -> list[Any]:
    values = list(document.get(field, ()))
    limit = IGNORED_ABOVE.get(field)
    return [v for v in values if limit is None or len(v.encode("utf-16-le")) // 2 <= limit]


def _is(leaf: Leaf, value: Any) -> bool:
    match leaf.kind:
        case "exists":
            return True
        case "term":
            return bool(value == leaf.value)
        case "expression":
            return re.fullmatch(leaf.value, value, re.DOTALL) is not None
        case "network":
            # Every address is one of IPv6 in the index, IPv4 as ::ffff:0:0/96.
            network, address = leaf.value, ipaddress.ip_address(value)
            if network.version == 6 and address.version == 4:
                address = ipaddress.ip_address(f"::ffff:{address}")
            return bool(address in network)
        case ">" | ">=" | "<" | "<=":
            verdicts = {
                ">": value > leaf.value,
                ">=": value >= leaf.value,
                "<": value < leaf.value,
                "<=": value <= leaf.value,
            }
            return bool(verdicts[leaf.kind])
    raise ValueError(leaf.kind)


def python_of(node: Node) -> str:
    """An expression's tree as Python's `re` has it; nothing of it is written as Lucene or RE2 write it."""
    match node:
        case Chars():
            inside = "".join(f"{_code(low)}-{_code(high)}" for low, high in node.ranges)
            return f"[{inside}]" if inside else "(?!)"
        case Seq():
            return "".join(python_of(item) for item in node.items)
        case Alt():
            return f"(?:{'|'.join(python_of(item) for item in node.items)})"
        case Repeat():
            return f"(?:{python_of(node.item)}){{{node.low},{'' if node.high is None else node.high}}}"


def _code(code: int) -> str:
    return f"\\U{code:08x}"


# -- generated -------------------------------------------------------------------------------------------

LETTERS = st.sampled_from("aAbBkK-_./\\\"#&<>~@^$|()[]{}*+?:;!=' \n\t\0é\u0130\u212a\u2028\uffff\U0001f600")
TEXTS = st.text(LETTERS, min_size=1, max_size=8)
ADDRESSES = st.sampled_from(
    ["10.0.0.1", "10.0.0.9", "10.1.0.1", "192.168.1.5", "::1", "fe80::1", "2001:db8::7"]
)
NETWORKS = st.sampled_from(["10.0.0.0/8", "10.0.0.0/29", "0.0.0.0/0", "::/0", "fe80::/10", "2001:db8::7/128"])
NUMBERS = st.integers(-20, 20)

_CHARS: st.SearchStrategy[Node] = LETTERS.map(lambda c: Chars(fold(c))) | st.tuples(LETTERS, LETTERS).map(
    lambda two: Chars(ranges([(ord(min(two)), ord(max(two)))]))
)


def _composed(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    listed = st.lists(inner, min_size=1, max_size=3).map(tuple)
    bounds = st.sampled_from([(0, 1), (0, None), (1, None), (2, 3), (2, 2), (1, None), (3, None)])
    return (
        st.builds(Seq, listed) | st.builds(Alt, listed) | st.builds(lambda i, b: Repeat(i, *b), inner, bounds)
    )


NODES: st.SearchStrategy[Node] = st.recursive(
    _CHARS | st.just(Chars(((0, LAST),))) | st.just(Seq(())), _composed, max_leaves=8
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def escaped(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else f"\\{c}" for c in text)


def slashed(node: Node) -> str:
    """As the backend writes it: no backslash before the slash that ends the expression."""
    text = render(node)
    return f"/{text[:-2] + '[' + chr(92) * 2 + ']' if text.endswith(chr(92) * 2) else text}/"


@st.composite
def _leaves(draw: st.DrawFn, fields: Sequence[str]) -> Leaf:
    field = draw(st.sampled_from(fields))
    kind = TYPES.get(field, "keyword")
    if draw(st.integers(0, 9)) == 0:
        return Leaf("", "everything", None, "*:*")
    if draw(st.integers(0, 6)) == 0:
        return Leaf(field, "exists", None, draw(st.sampled_from([f"_exists_:{field}", f"{field}:*"])))
    if kind == "ip":
        if draw(st.booleans()):
            network = draw(NETWORKS)
            said = draw(st.sampled_from([quoted, escaped]))
            return Leaf(field, "network", ipaddress.ip_network(network), f"{field}:{said(network)}")
        address = draw(ADDRESSES)
        return Leaf(field, "term", address, f"{field}:{quoted(address)}")
    if kind == "long":
        number = draw(NUMBERS)
        operator = draw(st.sampled_from([">", ">=", "<", "<=", "term"]))
        bound = quoted(str(number)) if operator == "term" else f"{operator}{number}"
        return Leaf(field, operator, number, f"{field}:{bound}")
    if kind == "boolean":
        truth = draw(st.booleans())
        return Leaf(field, "term", truth, f"{field}:{str(truth).lower()}")
    return draw(_text_leaves(field))


@st.composite
def _text_leaves(draw: st.DrawFn, field: str) -> Leaf:
    which = draw(st.sampled_from(["term", "regexp", "regexp", "wildcards"]))
    if which == "regexp":
        node = draw(NODES)
        return Leaf(field, "expression", python_of(node), f"{field}:{slashed(node)}")
    if which == "term":
        text = draw(TEXTS)
        said = quoted(text) if text[0] in "<>" else draw(st.sampled_from([quoted, escaped]))(text)
        return Leaf(field, "term", text, f"{field}:{said}")
    parts = draw(st.lists(st.sampled_from(["*", "?"]) | TEXTS.map(escaped), min_size=2, max_size=4))
    if parts[0][:2] in ("\\<", "\\>"):
        parts.insert(0, "x")  # an escape does not keep < and > from comparing
    if not {"*", "?"} & set(parts):
        return Leaf(field, "term", _unescaped("".join(parts)), f"{field}:{''.join(parts)}")
    meant = "".join({"*": ".*", "?": "."}.get(part) or re.escape(_unescaped(part)) for part in parts)
    return Leaf(field, "expression", meant, f"{field}:{''.join(parts)}")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


@st.composite
def _flats(draw: st.DrawFn, inner: st.SearchStrategy[Tree]) -> Flat:
    listed = draw(st.lists(inner, min_size=1, max_size=4))
    clauses = []
    for at, tree in enumerate(listed):
        conjunction = draw(st.sampled_from(["AND", "OR"])) if at else ""
        clauses.append((conjunction, draw(st.integers(0, 2)) == 0, tree))
    return Flat(tuple(clauses))


def trees(fields: Sequence[str] = (*TYPES, "unmapped")) -> st.SearchStrategy[Tree]:
    """Queries on these fields."""
    return st.recursive(_leaves(fields), _flats, max_leaves=6)


DOCUMENTS: st.SearchStrategy[dict[str, list[Any]]] = st.fixed_dictionaries(
    {},
    optional={
        "k": st.lists(TEXTS, min_size=1, max_size=2),
        "m": st.lists(TEXTS, min_size=1, max_size=3),
        "w": st.lists(TEXTS, min_size=1, max_size=2),
        "a": st.lists(ADDRESSES, min_size=1, max_size=2),
        "n": st.lists(NUMBERS, min_size=1, max_size=2),
        "b": st.lists(st.booleans(), min_size=1, max_size=2),
    },
)

"""Sigma's ``|re`` as a Lucene regular expression, where Lucene can say exactly the same; refused elsewhere.

A Sigma regular expression is PCRE and searches (``re.search``); Lucene's is anchored at both ends and has no
anchors inside.
"""

from __future__ import annotations

from sigma.types import SigmaRegularExpression

from detection_pack.languages.regex.regex_reader import RegexFault, read
from detection_pack.languages.regex.regex_tree import (
    ANYTHING,
    NEWLINE,
    WORD_CHARACTER,
    Alt,
    Anchor,
    Chars,
    Node,
    Repeat,
    Seq,
    complement,
    parts,
    ranges,
)
from detection_pack.model.refused_value import RefusedValue

_NO_WORD = Chars(complement(WORD_CHARACTER))


def expression(field: str, value: SigmaRegularExpression) -> Node:
    """The anchored Lucene expression that finds what ``value`` finds. Raises `RefusedValue`."""
    pattern = value.regexp.to_plain_regex()
    try:
        return _top(read(pattern, value.flags))
    except RegexFault as error:
        what = f'the regular expression of "{field}" cannot be said exactly in Lucene ({error})'
        what += "; write it without that"
        raise RefusedValue(what, pattern) from error


def _top(sequence: Node) -> Node:
    """A whole pattern or one branch of it: anchors at its ends say what may stand around it."""
    items = parts(sequence)
    if len(items) == 1 and isinstance(items[0], Alt):
        return Alt(tuple(_top(branch) for branch in items[0].items))
    if len(items) == 1 and isinstance(items[0], Seq) and not isinstance(items[0], Anchor):
        return _top(items[0])
    before: Node = ANYTHING
    after: Node = ANYTHING
    if items and isinstance(items[0], Anchor):
        before, items = _start(items[0], items[1:]), items[1:]
    if items and isinstance(items[-1], Anchor):
        after, items = _end(items[-1], items[:-1]), items[:-1]
    if any(map(_has_anchor, items)):
        raise RegexFault("an anchor inside it")
    return Seq((before, *items, after))


def _start(anchor: Anchor, rest: tuple[Node, ...]) -> Node:
    if anchor.kind == "start":
        return Seq(())
    if anchor.kind == "boundary" and rest and _is_word(rest[0]):
        return Repeat(Seq((ANYTHING, _NO_WORD)), 0, 1)
    raise RegexFault("an anchor or \\b inside it, or the m flag")


def _end(anchor: Anchor, rest: tuple[Node, ...]) -> Node:
    if anchor.kind == "end":
        return Repeat(Chars(NEWLINE), 0, 1)
    if anchor.kind == "boundary" and rest and _is_word(rest[-1]):
        return Repeat(Seq((_NO_WORD, ANYTHING)), 0, 1)
    raise RegexFault("an anchor or \\b inside it, or \\Z")


def _has_anchor(node: Node) -> bool:
    return isinstance(node, Anchor) or any(map(_has_anchor, parts(node)))


def _is_word(node: Node) -> bool:
    """Whether what stands at a ``\\b`` is surely a word character."""
    return isinstance(node, Chars) and ranges([*WORD_CHARACTER, *node.ranges]) == WORD_CHARACTER

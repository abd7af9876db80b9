"""Whether a backtracking matcher may take exponential time for a regular expression.

Splunk's PCRE tries every way in which a text could match before it says no, up to a limit, and then reports
no match: the event is missed. Exponentially many ways are there exactly if a state of the expression's
automaton can be left and reached again by one text on two paths (Weber and Seidl, "On the degree of ambiguity
of finite automata", criterion EDA). The automaton is Glushkov's, one state a character of the expression, so
that two paths between the same states, as in ``(a+)+``, are an edge twice.

What is not repeated without bound has finitely many ways, but may have as good as infinitely many: in
``(?:a?){30}a{30}`` each of thirty parts may be empty or not, and so in thirty times ``a?``. A run of parts
that may be empty and read the same character is held to `_AS_UNBOUNDED` of them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: A bounded repetition of more is taken for an unbounded one; of less, for one that is not repeated.
_AS_UNBOUNDED = 10
#: States that one loop may have to be judged; an expression within Elasticsearch's limits has hardly more.
_MAX_LOOP = 120

_CATEGORIES = {"DIGIT": r"[0-9]", "WORD": r"[0-9A-Za-z_]", "SPACE": r"[ \t\n\r\f\v]"}


@dataclass
class _Automaton:
    """``items``: what each state reads; ``edges``: how often one state follows another."""

    items: list[tuple[str, Any]] = field(default_factory=list)
    edges: Counter[tuple[int, int]] = field(default_factory=Counter)
    runs: list[list[tuple[int, range]]] = field(default_factory=list)

    def add(self, parsed: Any) -> tuple[int, list[int], list[int]]:
        """Add a sequence: in how many ways it may be empty (two stand for more), the states that it starts
        with and those that it ends with."""
        empty, first, last = 1, list[int](), list[int]()
        run: list[tuple[int, range]] = []
        for kind, argument in parsed:
            before = len(self.items)
            inner_empty, inner_first, inner_last, parts = self._item(str(kind), argument)
            if not inner_empty:
                self.runs.append(run)
                run = []
            elif before < len(self.items):
                run.append((parts, range(before, len(self.items))))
            self._join(last, inner_first)
            first = first + inner_first * empty
            last = last * inner_empty + inner_last
            empty = min(empty * inner_empty, 2)
        self.runs.append(run)
        return empty, first, last

    def _item(self, kind: str, argument: Any) -> tuple[int, list[int], list[int], int]:
        """The same of one item, and as how many parts that may be empty it is written out."""
        match kind:
            case "SUBPATTERN":
                return *self.add(argument[3]), 1
            case "BRANCH":
                found = [self.add(branch) for branch in argument[1]]
                first = [state for _, starts, _ in found for state in starts]
                last = [state for *_, ends in found for state in ends]
                return min(sum(empty for empty, _, _ in found), 2), first, last, 1
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, body = argument
                empty, first, last = self.add(body)
                if str(high) == "MAXREPEAT" or int(high) > _AS_UNBOUNDED:
                    self._join(last, first)
                times = int(low) if str(high) == "MAXREPEAT" else int(high)
                return 1 if int(low) == 0 else empty, first, last, max(1, times) if empty else 1
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                self.items.append((kind, argument))
                return 0, [len(self.items) - 1], [len(self.items) - 1], 1
        return 1, [], [], 1  # an anchor reads nothing

    def _join(self, last: list[int], first: list[int]) -> None:
        self.edges.update((a, b) for a in last for b in first)


def is_exponential(parsed: Any) -> bool:
    """``parsed`` is what Python's parser makes of the expression, if each alternative begins with a group
    of its own: the parser makes one class of ``(a|a)``, which a matcher takes for two ways."""
    automaton = _Automaton()
    automaton.add(parsed)
    followers: dict[int, list[int]] = {}
    for start, end in automaton.edges:
        followers.setdefault(start, []).append(end)
    alphabet = _alphabet(automaton.items)
    reads = [frozenset(c for c in alphabet if _reads(*item, c)) for item in automaton.items]
    if any(_most_at_once(run, reads) > _AS_UNBOUNDED for run in automaton.runs):
        return True
    for loop in _loops(range(len(automaton.items)), followers):
        inside = set(loop)
        if any(automaton.edges[a, b] > 1 for a in loop for b in followers.get(a, ()) if b in inside):
            return True
        if len(loop) <= _MAX_LOOP and _two_paths(loop, followers, reads):
            return True
    return False


def _most_at_once(run: list[tuple[int, range]], reads: list[frozenset[str]]) -> int:
    """How many parts of the run read one character, at most."""
    found: Counter[str] = Counter()
    for times, states in run:
        for character in frozenset[str]().union(*(reads[state] for state in states)):
            found[character] += times
    return max(found.values(), default=0)


def _two_paths(loop: list[int], followers: dict[int, list[int]], reads: list[frozenset[str]]) -> bool:
    """Whether two different paths of one text leave a state and meet in it again."""
    inside = set(loop)
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    stack = [(state, state) for state in loop]
    while stack:
        pair = stack.pop()
        if pair in pairs:
            continue
        pairs[pair] = [
            (a, b)
            for a in followers.get(pair[0], ())
            for b in followers.get(pair[1], ())
            if a in inside and b in inside and reads[a] & reads[b]
        ]
        stack += pairs[pair]
    return any(
        any(a == b for a, b in together) and any(a != b for a, b in together)
        for together in _loops(pairs, pairs)
    )


def _loops(nodes: Any, followers: Any) -> list[list[Any]]:
    """The strongly connected components that have an edge (Kosaraju's algorithm, without recursion)."""
    order: list[Any] = []
    seen: set[Any] = set()
    for root in nodes:
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(following, False) for following in followers.get(node, ())]
    back: dict[Any, list[Any]] = {}
    for node in order:
        for following in followers.get(node, ()):
            back.setdefault(following, []).append(node)
    found: list[list[Any]] = []
    placed: set[Any] = set()
    for root in reversed(order):
        component, stack2 = [], [root]
        while stack2:
            node = stack2.pop()
            if node not in placed:
                placed.add(node)
                component.append(node)
                stack2 += back.get(node, ())
        if len(component) > 1 or (component and component[0] in followers.get(component[0], ())):
            found.append(component)
    return found


def _alphabet(items: list[Any]) -> frozenset[str]:
    """Characters that tell any two states apart: every bound of a class and its neighbours."""
    found = set("aZ0_ \n-\u00e9\U0010ffff")
    for kind, argument in items:
        for inner, value in [(kind, argument)] if kind != "IN" else argument:
            if str(inner) in ("LITERAL", "NOT_LITERAL"):
                bounds = (value, value)
            elif str(inner) == "RANGE":
                bounds = value
            else:
                continue
            found |= {chr(c) for b in bounds for c in (b - 1, b, b + 1) if 0 <= c <= 0x10FFFF}
    return frozenset(found)


def _reads(kind: str, argument: Any, character: str) -> bool:
    """Whether a state reads the character; letter case is not told apart, which errs to the safe side."""
    forms = {ord(f) for f in (character, character.lower(), character.upper()) if len(f) == 1}
    match kind:
        case "LITERAL":
            return bool(argument in forms)
        case "NOT_LITERAL":
            return bool(argument != ord(character))
        case "ANY":
            return True
    negated = any(str(inner) == "NEGATE" for inner, _ in argument)
    held = any(_holds(str(inner), value, forms, character) for inner, value in argument)
    return held != negated


def _holds(kind: str, value: Any, forms: set[int], character: str) -> bool:
    if kind == "LITERAL":
        return bool(value in forms)
    if kind == "RANGE":
        return any(value[0] <= form <= value[1] for form in forms)
    if kind == "CATEGORY":
        name = str(value).removeprefix("CATEGORY_")
        matched = re.match(_CATEGORIES[name.removeprefix("NOT_")], character) is not None
        return matched != name.startswith("NOT_")
    return False

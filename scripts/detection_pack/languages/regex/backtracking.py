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

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from detection_pack.languages.regex.regex_tree import Alt, Chars, Node, Ranges, Repeat, Seq, parts

#: A bounded repetition of more is taken for an unbounded one; of less, for one that is not repeated.
_AS_UNBOUNDED = 10
#: States that one loop may have to be judged; an expression within Elasticsearch's limits has hardly more.
_MAX_LOOP = 120


@dataclass
class _Automaton:
    """``items``: what each state reads; ``edges``: how often one state follows another."""

    items: list[Ranges] = field(default_factory=list)
    edges: Counter[tuple[int, int]] = field(default_factory=Counter)
    runs: list[list[tuple[int, range]]] = field(default_factory=list)

    def add(self, sequence: Node) -> tuple[int, list[int], list[int]]:
        """Add a sequence: in how many ways it may be empty (two stand for more), the states that it starts
        with and those that it ends with."""
        empty, first, last = 1, list[int](), list[int]()
        run: list[tuple[int, range]] = []
        for node in parts(sequence):
            before = len(self.items)
            inner_empty, inner_first, inner_last, times = self._item(node)
            if not inner_empty:
                self.runs.append(run)
                run = []
            elif before < len(self.items):
                run.append((times, range(before, len(self.items))))
            self._join(last, inner_first)
            first = first + inner_first * empty
            last = last * inner_empty + inner_last
            empty = min(empty * inner_empty, 2)
        self.runs.append(run)
        return empty, first, last

    def _item(self, node: Node) -> tuple[int, list[int], list[int], int]:
        """The same of one item, and as how many parts that may be empty it is written out."""
        match node:
            case Seq():  # an anchor reads nothing
                return *self.add(node), 1
            case Alt():
                found = [self.add(branch) for branch in node.items]
                first = [state for _, starts, _ in found for state in starts]
                last = [state for *_, ends in found for state in ends]
                return min(sum(empty for empty, _, _ in found), 2), first, last, 1
            case Repeat():
                empty, first, last = self.add(node.item)
                if node.high is None or node.high > _AS_UNBOUNDED:
                    self._join(last, first)
                times = node.low if node.high is None else node.high
                return 1 if node.low == 0 else empty, first, last, max(1, times) if empty else 1
            case Chars():
                self.items.append(node.ranges)
                return 0, [len(self.items) - 1], [len(self.items) - 1], 1

    def _join(self, last: list[int], first: list[int]) -> None:
        self.edges.update((a, b) for a in last for b in first)


def is_exponential(expression: Seq) -> bool:
    """Whether a matcher may take exponential time for an expression whose alternatives all stand apart."""
    automaton = _Automaton()
    automaton.add(expression)
    followers: dict[int, list[int]] = {}
    for start, end in automaton.edges:
        followers.setdefault(start, []).append(end)
    alphabet = _alphabet(automaton.items)
    read = {item: frozenset(c for c in alphabet if _holds(item, c)) for item in set(automaton.items)}
    reads = [read[item] for item in automaton.items]
    if any(_most_at_once(run, reads) > _AS_UNBOUNDED for run in automaton.runs):
        return True
    for loop in _loops(range(len(automaton.items)), followers):
        inside = set(loop)
        if any(automaton.edges[a, b] > 1 for a in loop for b in followers.get(a, ()) if b in inside):
            return True
        if len(loop) <= _MAX_LOOP and _two_paths(loop, followers, reads):
            return True
    return False


def _most_at_once(run: list[tuple[int, range]], reads: list[frozenset[int]]) -> int:
    """How many parts of the run read one character, at most."""
    found: Counter[int] = Counter()
    for times, states in run:
        for character in frozenset[int]().union(*(reads[state] for state in states)):
            found[character] += times
    return max(found.values(), default=0)


def _two_paths(loop: list[int], followers: dict[int, list[int]], reads: list[frozenset[int]]) -> bool:
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


def _alphabet(items: list[Ranges]) -> frozenset[int]:
    """Characters that tell any two states apart: where one of their ranges starts, and where it is over."""
    return frozenset(code for item in items for low, high in item for code in (low, high + 1))


def _holds(item: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in item)

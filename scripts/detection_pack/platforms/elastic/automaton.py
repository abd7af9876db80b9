"""How large an expression's deterministic automaton gets: counted where it can be, bounded where not.

Elasticsearch refuses an expression whose automaton is too large to determinise, at query time and with the
whole rule. The subset construction here is the textbook one that Lucene's ``Operations.determinize`` uses;
its ε-transitions make the subsets, and so the counted work, larger than Lucene's. Lucene then turns code
points into UTF-8 bytes and determinises again: a class with many ranges beyond ASCII costs states at every
place that looks at it. Measured on Lucene 8.7: 235 states over code points with the class of all scripts'
letters became 21,195 over bytes. That second step is bounded from above.
"""

from __future__ import annotations

from detection_pack.platforms.elastic.regex_tree import Alt, Chars, Node, Ranges, Repeat, Seq

#: Larger expressions are refused before they are expanded (``(a{1000}){1000}``).
MAX_NFA_STATES = 20_000


class _Overflow(Exception):
    """The automaton has outgrown the limits."""


class _Nfa:
    """Thompson's construction."""

    def __init__(self) -> None:
        self.free: list[list[int]] = []
        self.edges: list[list[tuple[Ranges, int]]] = []

    def state(self) -> int:
        if len(self.free) >= MAX_NFA_STATES:
            raise _Overflow
        self.free.append([])
        self.edges.append([])
        return len(self.free) - 1

    def add(self, node: Node, start: int) -> int:
        """Append ``node`` after ``start``; the state where it ends."""
        match node:
            case Chars():
                end = self.state()
                self.edges[start].append((node.ranges, end))
            case Seq():
                end = start
                for item in node.items:
                    end = self.add(item, end)
            case Alt():
                end = self.state()
                for item in node.items:
                    branch = self.state()
                    self.free[start].append(branch)
                    self.free[self.add(item, branch)].append(end)
            case Repeat():
                end = self._repeat(node, start)
        return end

    def _repeat(self, node: Repeat, start: int) -> int:
        end = start
        for _ in range(node.low):
            end = self.add(node.item, end)
        if node.high is None:
            loop = self.state()
            self.free[end].append(loop)
            self.free[self.add(node.item, loop)].append(loop)
            return loop
        last = self.state()
        self.free[end].append(last)
        for _ in range(node.high - node.low):
            fresh = self.state()
            self.free[end].append(fresh)
            end = self.add(node.item, fresh)
            self.free[end].append(last)
        return last

    def closure(self, states: frozenset[int]) -> frozenset[int]:
        seen, stack = set(states), list(states)
        while stack:
            for target in self.free[stack.pop()]:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        return frozenset(seen)


def dfa_size(node: Node, max_states: int, max_work: int) -> tuple[int, int] | None:
    """``(states over bytes, work)`` of the determinised expression; None beyond either limit."""
    nfa = _Nfa()
    try:
        start = nfa.state()
        nfa.add(node, start)
    except (_Overflow, RecursionError):
        return None
    symbols, spans = _symbols(nfa)
    first = nfa.closure(frozenset([start]))
    seen, stack, work, between = {first}, [first], 0, 0
    while stack:
        subset = stack.pop()
        work += len(subset)
        if len(seen) + between > max_states or work > max_work:
            return None
        targets: dict[int, set[int]] = {}
        for state in subset:
            for given, target in nfa.edges[state]:
                for symbol in symbols[given]:
                    targets.setdefault(symbol, set()).add(target)
        arrivals: dict[frozenset[int], list[tuple[int, int]]] = {}
        for symbol, raw in targets.items():
            arrivals.setdefault(frozenset(raw), []).extend(spans[symbol])
        for arrival, reached in arrivals.items():
            between += sum(_between(low, high) for low, high in _joined(reached))
            following = nfa.closure(arrival)
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return len(seen) + between, work


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if out and low == out[-1][1] + 1:
            out[-1] = (out[-1][0], high)
        else:
            out.append((low, high))
    return out


def _between(low: int, high: int) -> int:
    """At most how many states stand between the bytes of the characters ``low`` to ``high``."""
    total = 0
    for first, last, bits, same, different in (
        (0x80, 0x7FF, 6, 1, 3),
        (0x800, 0xFFFF, 12, 2, 5),
        (0x10000, 0x10FFFF, 18, 3, 7),
    ):
        start, end = max(low, first), min(high, last)
        if start <= end:
            total += same if start >> bits == end >> bits else different
    return total


def _symbols(nfa: _Nfa) -> tuple[dict[Ranges, tuple[int, ...]], dict[int, list[tuple[int, int]]]]:
    """The alphabet cut into classes that no edge tells apart: an edge's ranges to its classes, and the
    characters of each class."""
    used = sorted({given for edges in nfa.edges for given, _ in edges})
    cuts = sorted({c for given in used for low, high in given for c in (low, high + 1)})
    signatures: dict[tuple[int, ...], int] = {}
    members: dict[Ranges, set[int]] = {given: set() for given in used}
    position = {cut: index for index, cut in enumerate(cuts)}
    holders: list[list[int]] = [[] for _ in cuts]
    for number, given in enumerate(used):
        for low, high in given:
            for index in range(position[low], position[high + 1]):
                holders[index].append(number)
    spans: dict[int, list[tuple[int, int]]] = {}
    for index, held in enumerate(holders[:-1]):
        symbol = signatures.setdefault(tuple(held), len(signatures))
        spans.setdefault(symbol, []).append((cuts[index], cuts[index + 1] - 1))
        for number in held:
            members[used[number]].add(symbol)
    return {given: tuple(found) for given, found in members.items()}, spans

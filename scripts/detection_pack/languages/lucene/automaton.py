"""How large an expression's deterministic automaton gets: counted where it can be, bounded where not.

Elasticsearch refuses an expression whose automaton is too large to determinise, at query time and with the
whole rule. The subset construction here is the textbook one that Lucene's ``Operations.determinize`` uses;
its ε-transitions make the subsets, and so the counted work, larger than Lucene's. Lucene then turns code
points into UTF-8 bytes and determinises again: a class with many ranges beyond ASCII costs states at every
place that looks at it. Measured on Lucene 8.7: 235 states over code points with the class of all scripts'
letters became 21,195 over bytes. That second step is bounded from above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from detection_pack.languages.regex.regex_tree import Alt, Chars, Node, Ranges, Repeat, Seq

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

    def closures(self) -> list[int]:
        """The states that each state reaches without reading, itself among them, as a set of bits."""
        found = []
        for start in range(len(self.free)):
            seen, stack = {start}, [start]
            while stack:
                for target in self.free[stack.pop()]:
                    if target not in seen:
                        seen.add(target)
                        stack.append(target)
            found.append(sum(1 << state for state in seen))
        return found


def dfa_size(node: Node, max_states: int, max_work: int) -> tuple[int, int] | None:
    """``(states over bytes, work)`` of the determinised expression; None beyond either limit.

    A subset of the automaton's states is known by the edges that led into it, since each edge has an end of
    its own. Sets are the bits of integers: most of this runs in the machine's own arithmetic.
    """
    nfa = _Nfa()
    try:
        start = nfa.state()
        nfa.add(node, start)
    except (_Overflow, RecursionError):
        return None
    closures = nfa.closures()
    edges = [(given, target) for found in nfa.edges for given, target in found]
    leaving, number = [], 0
    for found in nfa.edges:
        leaving.append(((1 << len(found)) - 1) << number)
        number += len(found)
    reached = [closures[target] for _, target in edges] + [closures[start]]
    follows = [sum(leaving[state] for state in _bits(closure)) for closure in reached]
    alphabet = _Alphabet(edges)
    first = 1 << len(edges)  # no edge leads to the start
    seen, stack, work, between = {first}, [first], 0, 0
    while stack:
        held = following = 0
        for edge in _bits(stack.pop()):
            held |= reached[edge]
            following |= follows[edge]
        work += held.bit_count()
        for arrival, read in alphabet.arrivals(following).items():
            between += alphabet.between(read)
            if arrival not in seen:
                seen.add(arrival)
                stack.append(arrival)
        if len(seen) + between > max_states or work > max_work:
            return None
    return len(seen) + between, work


class _Alphabet:
    """The characters cut into classes that no edge tells apart: symbols, numbered from 0.

    Most edges take one letter and a few take nearly everything. Where the latter lead is worked out once for
    each set of them that occurs; the former then change it for their own symbols.
    """

    #: Edges that take more symbols than this are among the few.
    NARROW = 4

    def __init__(self, edges: Sequence[tuple[Ranges, int]]) -> None:
        takers, self.spans = _symbols(edges)
        self.takers = takers
        taken: list[list[int]] = [[] for _ in edges]
        for symbol, taking in enumerate(takers):
            for edge in _bits(taking):
                taken[edge].append(symbol)
        self.narrow = {edge: found for edge, found in enumerate(taken) if len(found) <= self.NARROW}
        self.wide = sum(1 << edge for edge in range(len(edges)) if edge not in self.narrow)
        # Characters below 128 are one byte: nothing stands between their bytes.
        self.long = sum(1 << n for n, spans in enumerate(self.spans) if spans[-1][1] >= 0x80)
        self._wide: dict[int, tuple[list[int], dict[int, int]]] = {}
        self._between: dict[int, int] = {}

    def arrivals(self, following: int) -> dict[int, int]:
        """Where a set of edges leads: each set of edges that some symbols take to the symbols."""
        wide = following & self.wide
        if wide not in self._wide:
            by_symbol = [wide & taking for taking in self.takers]
            groups: dict[int, int] = {}
            for symbol, arrival in enumerate(by_symbol):
                if arrival:
                    groups[arrival] = groups.get(arrival, 0) | 1 << symbol
            self._wide[wide] = (by_symbol, groups)
        by_symbol, groups = self._wide[wide]
        changed: dict[int, int] = {}
        for edge in _bits(following ^ wide):
            for symbol in self.narrow[edge]:
                changed[symbol] = changed.get(symbol, by_symbol[symbol]) | 1 << edge
        if not changed:
            return groups
        arrivals = dict(groups)
        for symbol, arrival in changed.items():
            if before := by_symbol[symbol]:
                arrivals[before] ^= 1 << symbol
            arrivals[arrival] = arrivals.get(arrival, 0) | 1 << symbol
        return {arrival: read for arrival, read in arrivals.items() if read}

    def between(self, read: int) -> int:
        """At most how many states stand between the bytes of the characters of these symbols."""
        long = read & self.long
        if long not in self._between:
            joined = _joined([span for symbol in _bits(long) for span in self.spans[symbol]])
            self._between[long] = sum(_between(low, high) for low, high in joined)
        return self._between[long]


def _bits(number: int) -> Iterator[int]:
    """The places of the bits that are set."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def bytes_between(given: Ranges) -> int:
    """At most how many states stand between the bytes of these characters, beside the two at their ends."""
    return sum(_between(low, high) for low, high in given)


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


def _symbols(edges: Sequence[tuple[Ranges, int]]) -> tuple[list[int], list[list[tuple[int, int]]]]:
    """The alphabet cut into classes that no edge tells apart: for each, the edges that take it as a set of
    bits, and its characters."""
    takers: dict[Ranges, int] = {}
    for number, (given, _) in enumerate(edges):
        takers[given] = takers.get(given, 0) | 1 << number
    cuts = sorted({c for given in takers for low, high in given for c in (low, high + 1)})
    position = {cut: index for index, cut in enumerate(cuts)}
    holders = [0] * len(cuts)
    for given, taking in takers.items():
        for low, high in given:
            for index in range(position[low], position[high + 1]):
                holders[index] |= taking
    spans: dict[int, list[tuple[int, int]]] = {}
    for index, held in enumerate(holders[:-1]):
        if held:
            spans.setdefault(held, []).append((cuts[index], cuts[index + 1] - 1))
    return list(spans), list(spans.values())

"""What a query costs Elasticsearch before it reads a document: ``bench.py elastic``.

A Lucene query string is parsed and its expressions are made automata on every shard at every run of a rule,
however little there is to search. Our query of each rule, and that of stock pySigma's backend with the same
pipeline, run in turn against real Elasticsearch (tests/judges/elasticsearch) over an index of one document
for each log source. Of each the least and the median time of a request are kept. Of both the least time of a
request for everything is taken off, which is what the connection and an empty query cost.

The goal is at most 3 times stock's cost or 100 ms, whichever is more, by the least times: what else a machine
does only adds. The node runs with the
heap and the compiler of the tests, which is slower than a node in service: the ratios say more than the
milliseconds.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend

from detection_pack.model.event import Event
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.text_table import columns
from detection_pack.platforms.elastic.backend import queries
from detection_pack.platforms.elastic.cluster_store import ClusterStore

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from judges import elasticsearch_judge  # noqa: E402
from support import corpus  # noqa: E402
from support.sources import SOURCES  # noqa: E402

PLATFORM = "elastic"
#: The goal: so many times stock's cost, or so many milliseconds.
TIMES, MILLISECONDS = 3.0, 100.0
#: What the table shows of the dearest rules.
SHOWN = 15
EVERYTHING = "*:*"

#: Milliseconds of a query string over the indices of some patterns.
Asked = Callable[[str, Sequence[str]], float]


@dataclass(frozen=True)
class Pair:
    """A rule's two queries, ours and stock's, and the index patterns that they are for."""

    rule: str
    index: tuple[str, ...]
    ours: str
    stock: str


@dataclass(frozen=True)
class Cost:
    """Milliseconds of a rule's two queries, least and median, without an empty query's."""

    pair: Pair
    ours: tuple[float, float]
    stock: tuple[float, float]

    @property
    def ratio(self) -> float:
        return self.ours[0] / max(self.stock[0], 0.1)

    @property
    def fine(self) -> bool:
        return self.ours[0] <= max(MILLISECONDS, TIMES * self.stock[0])

    def cells(self) -> list[str]:
        figures = [f"{least:.1f} / {median:.1f}" for least, median in (self.ours, self.stock)]
        return [
            self.pair.rule,
            *figures,
            f"{self.ratio:.1f}",
            str(len(self.pair.ours)),
            "" if self.fine else "no",
        ]


def pairs(pack: Pack) -> Iterator[Pair]:
    """The rules that both backends can say in Lucene. A correlation has no query of stock's."""
    pipeline = pack.pipelines[PLATFORM]
    for rule in pack.rules:
        try:
            made = queries(rule, pipeline)
        except PackError:
            continue
        if made.lucene is None or rule.correlation is not None:
            continue
        try:
            [stock] = LuceneBackend(processing_pipeline=pipeline.processing()).convert(rule.sigma())
        except Exception:  # stock backends raise many kinds, and each means no
            continue
        yield Pair(rule.name, made.index, made.lucene, str(stock))


@contextmanager
def asked(url: str, store: ClusterStore) -> Iterator[Asked]:
    """Milliseconds of one request for a query string, on a connection that stays open."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)
    head = {"Content-Type": "application/json"}

    def milliseconds(query: str, index: Sequence[str]) -> float:
        path = f"/{','.join(store._names(index))}/_search?request_cache=false"
        said = {"query": {"bool": {"filter": [{"query_string": {"query": query, "analyze_wildcard": True}}]}}}
        body = json.dumps(said | {"size": 0})
        start = time.perf_counter()
        connection.request("POST", path, body, head)
        answer = connection.getresponse()
        found = answer.read()
        taken = (time.perf_counter() - start) * 1000
        if answer.status != 200:
            raise SystemExit(f"{query[:200]}: {found[:400]!r}")
        return taken

    try:
        yield milliseconds
    finally:
        connection.close()


def costs(found: Sequence[Pair], milliseconds: Asked, runs: int) -> list[Cost]:
    """The cost of each pair; all queries in turn, so that a change of the machine's speed hits both sides."""
    for _ in range(30):
        milliseconds(EVERYTHING, ("*",))
    empty: list[float] = []
    taken: list[tuple[list[float], list[float]]] = [([], []) for _ in found]
    for run in range(runs + 1):
        for pair, (ours, stock) in zip(found, taken, strict=True):
            times = [milliseconds(query, pair.index) for query in (EVERYTHING, pair.ours, pair.stock)]
            if run:  # the first warms the node's own compiler
                empty.append(times[0])
                ours.append(times[1])
                stock.append(times[2])
    base = min(empty)
    return [
        Cost(pair, *((min(side) - base, statistics.median(side) - base) for side in sides))
        for pair, sides in zip(found, taken, strict=True)
    ]


def table(found: Sequence[Cost]) -> str:
    dearest = sorted(found, key=lambda cost: -cost.ours[0])[:SHOWN]
    header = ["rule", "ours, ms", "stock, ms", "ratio", "characters", "fine"]
    return "\n".join(columns([header, *(cost.cells() for cost in dearest)]))


def measure(count: int, runs: int, seed: int, major: str) -> bool:
    """Print the costs of the pack's rules and of a made corpus; whether all are within the goal."""
    if (reason := elasticsearch_judge.available(major)) is not None:
        raise SystemExit(reason)
    fine = True
    with tempfile.TemporaryDirectory() as folder, elasticsearch_judge.started(major) as node:
        corpus.write(Path(folder), count, seed)
        findings: list[Finding] = []
        sides = {"the pack": load_pack(ROOT), f"{count} made rules": load_pack(ROOT, Path(folder), findings)}
        kinds = [kind for kind in SOURCES.values() if PLATFORM not in kind.absent]
        with ClusterStore(node.cluster, [Event(kind.name, kind, {}) for kind in kinds]) as store:
            for label, pack in sides.items():
                with asked(node.url, store) as milliseconds:
                    found = costs(list(pairs(pack)), milliseconds, runs)
                met = sum(cost.fine for cost in found)
                fine &= met == len(found)
                middle = statistics.median(cost.ratio for cost in found)
                goal = f"{TIMES:g} x stock or {MILLISECONDS:g} ms"
                print(f"{label}, Elasticsearch {node.version}: {met} of {len(found)} rules within {goal}")
                print(f"median ratio {middle:.1f}; least / median of {runs} runs")
                print(f"{table(found)}\n", flush=True)
    return fine

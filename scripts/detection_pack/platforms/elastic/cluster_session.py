"""A person's cluster, opened for a replay: what it is, what it can run, and their leave to write to it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError, printable
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.elastic.cluster import OPTION, Cluster, Refused
from detection_pack.platforms.elastic.cluster_store import PREFIX, ClusterStore, leftovers, remove
from detection_pack.platforms.records import Records

#: Earlier ones lack what the rules need (version 8.0 has points in time and composite aggregations alike).
_LEAST_MAJOR = 8
#: How Elasticsearch answers a path that none of its modules knows.
_UNKNOWN_PATH = (400, 404, 405)


@dataclass
class Session:
    """A cluster that may be written to. ``has_esql``: whether it answers ES|QL.

    ``refused`` collects why the cluster did not take some records, by id.
    """

    cluster: Cluster
    has_esql: bool
    refused: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def opened(
        self,
        events: Sequence[Event] | Records,
        sources: Iterable[LogSource] | None = None,
        variables: Mapping[str, bool] | None = None,
    ) -> Iterator[ClusterStore]:
        """The events in indices of ours, which are gone afterwards."""
        with ClusterStore(self.cluster, events, sources, variables) as store:
            self.refused |= store.refused
            yield store

    def notes(self) -> Iterator[str]:
        """What a reader of the hits must know."""
        if not self.has_esql:
            yield (
                f"{self.cluster.url} has no ES|QL: a correlation is judged by its threshold rule, "
                "which may alert more often"
            )
        if self.refused:
            first, reason = next(iter(self.refused.items()))
            yield printable(
                f"{len(self.refused)} records refused by the cluster; the first, {first}: {reason}"
            )


class Leave:
    """Asks the person: on a terminal by a question, elsewhere they have said yes beforehand, or it is
    refused."""

    def __init__(self, given: bool, ask: Callable[[str], str] = input) -> None:
        self._given, self._ask = given, ask

    def to(self, what: str) -> bool:
        """Whether they let us. ``what`` completes "… ?" and, once given, is said on standard error."""
        if self._given:
            print(f"{what}: yes, by --yes", file=sys.stderr)
            return True
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise PackError.at(OPTION, 1, f"no leave to {_lower(what)}", "say so with --yes")
        print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
        try:
            return self._ask("").strip().lower() in ("y", "yes")
        except EOFError:
            return False


def open_session(cluster: Cluster, leave: Leave, records: int) -> Session:
    """Look at the cluster, remove what a killed run left there, and ask leave to create indices.

    Nothing is written before leave is given. Raises `PackError` where it is not, and for a cluster that is
    not Elasticsearch 8 or newer.
    """
    about = _described(cluster)
    left = leftovers(cluster)
    if left:
        listed = ", ".join(f"{one.name} ({one.created:%Y-%m-%d %H:%M} UTC)" for one in left)
        if leave.to(f"Remove from {about} what an interrupted replay left: {listed}"):
            remove(cluster, [one.name for one in left])
    if not leave.to(f"Create indices {PREFIX}* on {about} for {records} records, and remove them at the end"):
        raise PackError.at(OPTION, 1, "nothing was created", "answer y, or replay without --elasticsearch")
    return Session(cluster, _has_esql(cluster))


def _described(cluster: Cluster) -> str:
    answer: dict[str, Any] = cluster.request("GET", "/_nodes?filter_path=cluster_name,nodes.*.version") or {}
    versions = sorted({str(node.get("version")) for node in answer.get("nodes", {}).values()})
    majors = [int(version.split(".")[0]) for version in versions if version.split(".")[0].isdecimal()]
    if not majors or min(majors) < _LEAST_MAJOR:
        shown = ", ".join(versions) or "no version"
        raise PackError.at(
            OPTION,
            1,
            f"{cluster.url} is not Elasticsearch {_LEAST_MAJOR} or newer ({shown})",
            "use one that is",
        )
    name = printable(str(answer.get("cluster_name")))
    return f'{cluster.url} (cluster "{name}", Elasticsearch {", ".join(versions)})'


def _has_esql(cluster: Cluster) -> bool:
    try:
        cluster.request("POST", "/_query", {"query": "ROW known = true"})
    except Refused as error:
        if error.status in _UNKNOWN_PATH:
            return False
        raise
    return True


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let a signal to end unwind the program, so that indices are removed: exit code 143, and 130 for
    Ctrl-C."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

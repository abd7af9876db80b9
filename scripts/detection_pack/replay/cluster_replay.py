"""``replay --elasticsearch``: Elastic's artefacts on a person's own cluster instead of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from detection_pack.build.dist import rule_entries
from detection_pack.model.case import Case
from detection_pack.model.event import Event, Hit
from detection_pack.model.findings import Finding
from detection_pack.platforms.elastic import run as elastic
from detection_pack.platforms.elastic.cluster import Cluster
from detection_pack.platforms.elastic.cluster_session import Leave, Session, ended_by_signals, open_session
from detection_pack.platforms.elastic.platform import PLATFORM
from detection_pack.platforms.platform import Run, Runner, Sources
from detection_pack.replay.verdict import clock_for, exact, execute, judge, selected, table

__all__ = ["ended_by_signals", "judged_on_cluster", "on_cluster", "opened_session"]


def opened_session(
    url: str,
    leave: bool,
    records: int,
    *,
    api_key_file: Path | None = None,
    ca_file: Path | None = None,
    allow_http: bool = False,
    environment: Mapping[str, str],
) -> Session:
    """The cluster at ``url``, with leave to write so many records there. Raises `PackError`."""
    cluster = Cluster(
        url,
        api_key_file=api_key_file,
        ca_file=ca_file,
        allow_http=allow_http,
        environment=environment,
    )
    return open_session(cluster, Leave(leave), records)


def cluster_runners(session: Session) -> tuple[Runner, Runner]:
    """What runs Elastic's queries and imports, on a cluster."""
    return (
        partial(elastic.run, opened=session.opened, esql=session.has_esql),
        partial(elastic.run_imports, opened=session.opened, esql=session.has_esql),
    )


def on_cluster(
    session: Session,
    dist: Path,
    events: Sequence[Event],
    rules: Iterable[str] | None = None,
    sources: Sources | None = None,
) -> list[Hit]:
    """`replay` for Elastic on a cluster: the hits of each rule's own query. Without ES|QL a correlation is
    its threshold rule, which may alert more often than the rule."""
    entries = [entry for entry in selected(rule_entries(dist), rules) if PLATFORM.own(entry)]
    hits = cluster_runners(session)[0](Run(dist, entries, events, clock_for(events), sources))
    return exact(hits) + [h for h in hits if not PLATFORM.is_exact(h.artefact) and not session.has_esql]


def judged_on_cluster(
    session: Session, dist: Path, cases: Mapping[str, Sequence[Case]], sources: Sources | None = None
) -> tuple[list[Hit], str, list[Finding]]:
    """The rules' own cases on a cluster: hits, the table of verdicts, and what came out otherwise."""
    runners = {PLATFORM.id: cluster_runners(session)}
    executed = execute(dist, cases, [PLATFORM.id], sources, runners)
    verdicts = judge(dist, cases, executed)
    if not session.has_esql:
        windows = {entry.name for entry in rule_entries(dist) if entry.window is not None}
        verdicts = [v for v in verdicts if v.rule not in windows or not PLATFORM.is_exact(v.artefact)]
    hits = [hit for found in executed.values() for hit in found]
    return exact(hits), table(verdicts), [finding for v in verdicts for finding in v.wrong]

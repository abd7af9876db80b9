"""How tests run what is built: by platform, the queries as files and what is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.languages.conf import conf_text, joined
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.pack import Pack
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.elastic import run as elastic
from detection_pack.platforms.kusto import run as kusto
from detection_pack.platforms.platform import Run, Sources, platform, platforms
from detection_pack.platforms.sentinel import imports as sentinel
from detection_pack.platforms.splunk import imports
from detection_pack.platforms.splunk import run as splunk
from detection_pack.platforms.splunk.query import SplunkQuery
from support.rules import given


def spread(runner: Callable[..., list[Hit]]) -> Callable[..., list[Hit]]:
    """A runner that takes the parts of a `Run` one by one, and passes on what else it is given by name."""

    def run(
        dist: Path,
        rules: Sequence[RuleEntry],
        events: Sequence[Event],
        clock: Clock,
        sources: Sources | None = None,
        **more: Any,
    ) -> list[Hit]:
        return runner(Run(dist, rules, events, clock, sources), **more)

    return run


ENGINES = {here.id: spread(here.run) for here in platforms()}
IMPORTS = {here.id: spread(here.run_imports) for here in platforms()}
run_kql, run_spl, run_elastic = spread(kusto.run), spread(splunk.run), spread(elastic.run)
run_analytics, run_app = spread(sentinel.run_imports), spread(splunk.run_imports)
run_rules = spread(elastic.run_imports)
UNION_KQL, UNION_SPL = "remote_email_collection.kql", "remote_email_collection.spl"
#: The artefact that may alert more often than the rule, never less: Kibana's threshold rule.
SOUND_ONLY = ".threshold.json"


def of_platform(pack: Pack, name: str) -> list[Artefact]:
    """What one platform makes of the rules that it is given. Raises `PackError` for one that it refuses."""
    here = platform(name)
    parts = [here.part(rule, pack.pipelines, pack.version) for rule in given(pack, name)]
    own = [artefact for part in parts for artefact in part.artefacts]
    return own + here.assembled(parts, pack.version)


def kql_union(dist: Path, events: Sequence[Event], clock: Clock) -> list[dict[str, Any]]:
    """The rows of the union of KQL queries, as it stands."""
    return kusto.Workspace(events).query((dist / "sentinel" / UNION_KQL).read_text("utf-8"), clock)


def spl_union(dist: Path, events: Sequence[Event], clock: Clock) -> list[Mapping[str, Any]]:
    """The rows of the union of SPL searches, as it stands."""
    macros = splunk.macros_in(dist, clock)
    found = splunk.Workspace(events).search(
        (dist / "splunk" / UNION_SPL).read_text("utf-8"), macros, clock.now
    )
    return [row.values for row in found]


def execute(
    spl: str, events: Sequence[Event], clock: Clock, macros: Mapping[str, str] | None = None
) -> list[splunk.Row]:
    """Run any supported SPL search on events; ``macros`` maps a macro's name to its definition."""
    return splunk.Workspace(events).search(spl, macros or {}, clock.now)


def macros_conf(query: SplunkQuery) -> str:
    """``macros.conf`` with the macros of one search alone."""
    shared = imports.macros_of_sources(query.sources)
    return joined([conf_text(shared), conf_text(imports.macros_of(query))])

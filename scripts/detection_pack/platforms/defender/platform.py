"""Microsoft Defender XDR: the files of dist/defender/, and what runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.platforms.built_file import built_text
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.defender.backend import DefenderBackend, defender_query
from detection_pack.platforms.defender.detections import detection_of, text
from detection_pack.platforms.defender.hunting import HUNTS, hunting_query
from detection_pack.platforms.kusto.hunting import hunting_file, hunting_yaml
from detection_pack.platforms.kusto.query import conversion_of, parameters
from detection_pack.platforms.platform import ImportFiles, Platform, QueryForm, Run, Setting, Sources, Stored
from detection_pack.platforms.settings import chosen, decoded, readable

DETECTIONS = "defender/detections/"
_SETTINGS = ("status", "frequency", "severity", "entityMappings", "customDetails", "tactics")


class Defender(Platform):
    """Queries to run by hand or to make a detection of, detections as the API takes them, and of the hunting
    tier hunting queries."""

    id = "defender"
    title = "Microsoft Defender XDR"
    fence = "kusto"
    keeps_no_lists = "a custom detection reads tables of advanced hunting alone"
    forms = (QueryForm(".kql", "KQL", "kusto"),)

    def convert(self, rule: Rule, pipeline: Pipeline) -> str:
        return defender_query(rule, pipeline)

    def made(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        """``queries/<name>.kql`` and ``detections/<name>.json``; hunts have ``hunting/<name>.yaml``."""
        if rule.tier in BY_HAND:
            hunt = hunting_query(rule, pipelines[self.id], version)
            query = Artefact(_path(rule.name), hunt.query.encode(), rule.name)
            file = Artefact(f"{HUNTS}{rule.name}.yaml", hunting_yaml(hunt).encode(), rule.name)
            return Part(rule.name, rule.tier, (query, file), {}, (hunt.id,))
        files = [Artefact(_path(rule.name), defender_query(rule, pipelines[self.id]).encode(), rule.name)]
        claims: tuple[str, ...] = ()
        made = detection_of(rule, *conversion_of(rule, pipelines[self.id], DefenderBackend))
        if made is not None:
            files.append(Artefact(f"{DETECTIONS}{rule.name}.json", text(made).encode(), rule.name))
            claims = (made["id"],)
        return Part(rule.name, rule.tier, tuple(files), {}, claims)

    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        return []

    def run(self, given: Run) -> list[Hit]:
        from detection_pack.platforms.kusto.run import run

        return run(given, self.id)

    def stored(self, events: Sequence[Event], sources: Sources | None = None) -> list[Stored]:
        from detection_pack.platforms.kusto.run import stored

        return stored(events, self.id, sources)

    def run_imports(self, given: Run) -> list[Hit]:
        """Execute the detections of these rules, or of the hunting tier the hunting queries, out of their
        files."""
        from detection_pack.platforms.kusto.run import Workspace, verdicts

        workspace = Workspace(given.events, schema=self.id, sources=given.sources)
        hits: list[Hit] = []
        for rule in given.rules:
            for path in filter(_is_import, rule.artefacts):
                if path.startswith(HUNTS):
                    query = hunting_file(given.dist / path)["query"]
                else:
                    query = detection(given.dist / path)["queryCondition"]["queryText"]
                hits += verdicts(workspace, query, rule, given.clock, path)
        return hits

    def must_run(self, rule: RuleEntry, own: Sequence[str], shared: Sequence[str]) -> list[str]:
        return [*super().must_run(rule, own, shared), *filter(_is_import, own)]

    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        return DefenderImports(files)

    def path_today(self, path: str) -> str:
        """Up to version 1.1 the queries stood in ``defender/`` itself."""
        return re.sub(rf"^{self.id}/([^/]+\.kql)$", rf"{self.id}/queries/\1", path)


class DefenderImports(ImportFiles):
    """What a detection says of its schedule and its alerts, and the parameters of the queries."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def schedules(self, rule: str) -> list[Setting]:
        path = f"{DETECTIONS}{rule}.json"
        if path not in self._files:
            return []
        with readable(path):
            stated = json.loads(decoded(self._files[path]))
            alert = stated["detectionAction"]["alertTemplate"]
            found = {"status": stated["status"], "frequency": stated["schedule"]["frequency"], **alert}
            return chosen(Defender.id, path, found, _SETTINGS, "custom detection")

    def parameters(self, rule: str) -> list[Setting]:
        path = _path(rule)
        with readable(path):
            found = parameters(decoded(self._files.get(path, b"")))
        return [Setting(Defender.id, path, name, value, "query") for name, value in found]


def detection(path: Path) -> dict[str, Any]:
    """A detection's file. Raises `PackError`."""
    try:
        stated = json.loads(built_text(path))
        stated["queryCondition"]["queryText"].splitlines()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackError.at(path, 1, "is not a custom detection of this pack", "build dist/ again") from error
    return dict(stated)


def _path(rule: str) -> str:
    return f"{Defender.id}/queries/{rule}.kql"


PLATFORM = Defender()


def _is_import(path: str) -> bool:
    return path.startswith((DETECTIONS, HUNTS))

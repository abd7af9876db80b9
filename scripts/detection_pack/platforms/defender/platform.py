"""Microsoft Defender XDR: the files of dist/defender/, and what runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from detection_pack.model.event import Hit
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.defender.backend import defender_query
from detection_pack.platforms.kusto.query import parameters
from detection_pack.platforms.platform import ImportFiles, Platform, QueryForm, Run, Setting
from detection_pack.platforms.settings import decoded, readable


class Defender(Platform):
    """A custom detection is its query: what is imported is what stands in ``queries/``."""

    id = "defender"
    title = "Microsoft Defender XDR"
    forms = (QueryForm(".kql", "KQL", "kusto"),)

    def convert(self, rule: Rule, pipeline: Pipeline) -> str:
        return defender_query(rule, pipeline)

    def part(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        """``queries/<name>.kql``, for a custom detection or, of the hunting tier, for advanced hunting."""
        text = defender_query(rule, pipelines[self.id])
        return Part(rule.name, rule.tier, (Artefact(_path(rule.name), text.encode(), rule.name),), {})

    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        return []

    def run(self, given: Run) -> list[Hit]:
        from detection_pack.platforms.kusto.run import run

        return run(given, self.id)

    def run_imports(self, given: Run) -> list[Hit]:
        return []

    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        return DefenderImports(files)

    def path_today(self, path: str) -> str:
        """Up to version 1.1 the queries stood in ``defender/`` itself."""
        return re.sub(rf"^{self.id}/([^/]+\.kql)$", rf"{self.id}/queries/\1", path)


class DefenderImports(ImportFiles):
    """A custom detection runs as the portal says; only the query's parameters are ours."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def schedules(self, rule: str) -> list[Setting]:
        return []

    def parameters(self, rule: str) -> list[Setting]:
        path = _path(rule)
        with readable(path):
            found = parameters(decoded(self._files.get(path, b"")))
        return [Setting(Defender.id, path, name, value, "query") for name, value in found]


def _path(rule: str) -> str:
    return f"{Defender.id}/queries/{rule}.kql"


PLATFORM = Defender()

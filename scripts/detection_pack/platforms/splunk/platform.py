"""Splunk: the files of dist/splunk/, and what runs them."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from detection_pack.languages.conf import Stanzas, read_conf
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.platform import ImportFiles, Platform, QueryForm, Setting, Sources
from detection_pack.platforms.settings import chosen, decoded, readable
from detection_pack.platforms.splunk import artefacts
from detection_pack.platforms.splunk.app import APP, FORMS
from detection_pack.platforms.splunk.query import SplunkQuery, queries

_MACRO = re.compile(r"`(\w+)`")
#: What decides when a saved search runs, on what, and what becomes of a result. Prose is left out.
_SETTINGS = (
    "disabled",
    "enableSched",
    "cron_schedule",
    "dispatch.earliest_time",
    "dispatch.latest_time",
    "schedule_window",
    "allow_skew",
    "counttype",
    "relation",
    "quantity",
    "alert.severity",
    "alert.digest_mode",
    "alert.suppress",
    "alert.suppress.fields",
    "alert.suppress.period",
    "action.notable.param.severity",
)


class Splunk(Platform):
    id = "splunk"
    title = "Splunk"
    forms = (
        QueryForm(".spl", "SPL", "spl"),
        QueryForm(".tstats.spl", "SPL on the accelerated data model", "spl"),
        QueryForm(".raw.spl", "SPL on the events' own fields", "spl"),
    )

    def convert(self, rule: Rule, pipeline: Pipeline) -> SplunkQuery:
        return queries(rule, pipeline)

    def part(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        return artefacts.part(rule, pipelines, version)

    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        return artefacts.assembled(parts, version)

    def run(
        self,
        dist: Path,
        rules: Sequence[RuleEntry],
        events: Sequence[Event],
        clock: Clock,
        sources: Sources | None = None,
    ) -> list[Hit]:
        from detection_pack.platforms.splunk.run import run

        return run(dist, rules, events, clock, sources)

    def run_imports(
        self,
        dist: Path,
        rules: Sequence[RuleEntry],
        events: Sequence[Event],
        clock: Clock,
        sources: Sources | None = None,
    ) -> list[Hit]:
        from detection_pack.platforms.splunk.app_engine import run_app

        return run_app(dist, rules, events, clock, sources)

    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        return SplunkImports(files)

    def must_run(self, rule: RuleEntry, own: Sequence[str], shared: Sequence[str]) -> list[str]:
        return [*super().must_run(rule, own, shared), *(path for path in shared if path.endswith(".tgz"))]


class SplunkImports(ImportFiles):
    """The saved searches of the app, and the macros, which stand in the app and beside the queries."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        start = f"{Splunk.id}/{APP}-"
        self._app = next((p for p in sorted(files) if p.startswith(start) and p.endswith(".tgz")), "")
        with readable(artefacts.MACROS):
            self._macros = read_conf(decoded(files.get(artefacts.MACROS, b"")))
        with readable(self._app):
            self._saved_searches = self._app_conf("savedsearches.conf")

    def schedules(self, rule: str) -> list[Setting]:
        return [
            setting
            for name in self._searches(rule)
            for setting in chosen(Splunk.id, name, self._saved_searches[name], _SETTINGS, f"alert `{name}`")
        ]

    def parameters(self, rule: str) -> list[Setting]:
        """The macros that the rule's searches call, its own first."""
        with readable(artefacts.MACROS):
            paths = (f"{Splunk.id}/queries/{rule}{form}.spl" for form in FORMS)
            texts = [decoded(self._files.get(path, b"")) for path in paths]
        called = dict.fromkeys(n for text in texts for n in _MACRO.findall(text) if n in self._macros)
        for name in list(called):
            definition = self._macros[name].get("definition", "")
            called |= dict.fromkeys(n for n in _MACRO.findall(definition) if n in self._macros)
        names = sorted(called, key=lambda name: not name.startswith(f"{rule}_"))
        return [
            Setting(Splunk.id, artefacts.MACROS, name, self._macros[name].get("definition", ""), "macro")
            for name in names
        ]

    def parts(self, rule: str) -> dict[str, str]:
        return {
            f"{self._app}: [{name}]": json.dumps(self._saved_searches[name], ensure_ascii=False)
            for name in self._searches(rule)
        }

    def _searches(self, rule: str) -> Iterator[str]:
        return (name for name in (rule + form for form in FORMS) if name in self._saved_searches)

    def _app_conf(self, name: str) -> Stanzas:
        if not self._app:
            return {}
        with tarfile.open(fileobj=io.BytesIO(self._files[self._app]), mode="r:gz") as archive:
            member = archive.extractfile(f"{APP}/default/{name}")
            return read_conf(decoded(member.read())) if member else {}


PLATFORM = Splunk()

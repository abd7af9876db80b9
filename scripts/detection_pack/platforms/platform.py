"""A platform: the one object that the rest of the product asks, and the registry of all of them.

A platform is a folder with a ``platform.py`` that holds ``PLATFORM``. What runs queries loads an engine,
which takes longer than a whole build, so a platform imports its engine only when it is asked to run
something.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.default_views import with_view
from detection_pack.platforms.records import Records

#: The log sources whose tables the queries may read, whether or not there is an event of them.
Sources = Iterable[LogSource]


@dataclass(frozen=True)
class Run:
    """What is executed: rules out of a folder of built artefacts, on events or on records of a log, as at the
    clock's time. ``exact_only``: no form of a rule that may alert more often than the rule, or repeats it."""

    dist: Path
    rules: Sequence[RuleEntry]
    events: Sequence[Event] | Records
    clock: Clock
    sources: Sources | None = None
    exact_only: bool = False


@dataclass(frozen=True)
class Stored:
    """One event as a platform holds it.

    ``event`` is its id, ``place`` the table, index, sourcetype or data set. ``fields``: what it holds there,
    by the platform's names and without what is empty; a list where a field has several values. ``refused``
    says why the platform would not take it, and nothing finds it then.
    """

    event: str
    place: str
    fields: Mapping[str, Any]
    refused: str | None = None


Runner = Callable[[Run], list[Hit]]


@dataclass(frozen=True)
class QueryForm:
    """One form of a rule's query as a file: ``<id>/queries/<rule><ending>``.

    ``language`` is for people, ``fence`` the language of a Markdown fence. ``exact``: its hits are the
    rule's; another form may alert more often, never less.
    """

    ending: str
    language: str
    fence: str
    exact: bool = True


@dataclass(frozen=True)
class Setting:
    """One setting of a rule on a platform, as an import states it.

    ``of`` names what it belongs to: a file of dist/, a saved search, the type of a Kibana rule; ``where``
    says so to people. ``value`` is text, or JSON where it is not text.
    """

    platform: str
    of: str
    key: str
    value: str
    where: str


class ImportFiles(ABC):
    """What teams import of a build, read once."""

    @abstractmethod
    def schedules(self, rule: str) -> list[Setting]:
        """What decides when the imports of a rule run, on what, and what becomes of a result."""

    @abstractmethod
    def parameters(self, rule: str) -> list[Setting]:
        """What a site may change in the queries of a rule. Those that rules share come last."""

    def parts(self, rule: str) -> dict[str, str]:
        """What the files that hold every rule hold of this one, as JSON, by file and place in it."""
        return {}


class Platform(ABC):
    """What the product asks of a platform.

    ``id`` is the name of its folder here, in ``pipelines/`` and in ``dist/``; ``title`` is for people.
    """

    id: str
    title: str
    #: The forms of a rule's query as files, the rule's own first.
    forms: tuple[QueryForm, ...]
    #: Why a list of a site cannot be an object of its own there, which rules ask and people edit; empty where
    #: it can.
    keeps_no_lists: str = ""
    #: The language of a Markdown fence around a query of its prerequisites (`prerequisites`).
    fence: str

    @abstractmethod
    def convert(self, rule: Rule, pipeline: Pipeline) -> object:
        """The rule's query. Raises `PackError` for what the platform cannot say."""

    def part(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        """What the rule gives to dist/, with the alert view of its log source where it states none. Raises
        `PackError` for what the platform cannot say or import."""
        return with_view(rule, pipelines[self.id], self.title, lambda one: self.made(one, pipelines, version))

    @abstractmethod
    def made(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        """The same with the rule's view as it is."""

    @abstractmethod
    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        """The files that hold every rule."""

    @abstractmethod
    def run(self, given: Run) -> list[Hit]:
        """Execute the rules' queries as they stand in dist/, all forms of them. Raises `PackError`."""

    @abstractmethod
    def stored(self, events: Sequence[Event], sources: Sources | None = None) -> list[Stored]:
        """The events as the platform holds them; none of an event that its ingest leaves out, several of one
        that it holds in several places, the one that queries read by default first."""

    @abstractmethod
    def run_imports(self, given: Run) -> list[Hit]:
        """Execute the same rules out of what a team imports."""

    @abstractmethod
    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        """The imports among the files of dist/. Raises `PackError` for a file that is none of ours."""

    def must_run(self, rule: RuleEntry, own: Sequence[str], shared: Sequence[str]) -> list[str]:
        """The artefacts that a replay of the rule must have executed, of those that the manifest lists.

        ``own``: the rule's on this platform; ``shared``: those that hold every rule. A file of ``shared`` is
        executed if any hit's artefact begins with its path.
        """
        return [path for path in own if path.endswith(tuple(form.ending for form in self.forms))]

    def own(self, rule: RuleEntry) -> list[str]:
        """The rule's artefacts on this platform, as the manifest lists them."""
        return [path for path in rule.artefacts if path.startswith(f"{self.id}/")]

    def path_today(self, path: str) -> str:
        """Where this version writes the file of a rule that an earlier version wrote to ``path``."""
        return path

    def is_exact(self, artefact: str) -> bool:
        """Whether an artefact alerts exactly as the rule does; else it may alert more often, never less."""
        inexact = tuple(form.ending for form in self.forms if not form.exact)
        return not (inexact and artefact.endswith(inexact))

    def is_own_query(self, artefact: str, rule: str) -> bool:
        """Whether an artefact is the rule's own query, whose hits a replay of a log reports."""
        name = artefact.rpartition("/")[2]
        return "/queries/" in artefact and any(
            name == f"{rule}{form.ending}" for form in self.forms if form.exact and "." not in form.ending[1:]
        )


@cache
def platform(name: str) -> Platform:
    """The platform of this name. Raises `PackError` for a name that none has."""
    if name not in PLATFORMS:
        raise PackError.at("--platform", 1, f'no platform "{name}"', f"use {', '.join(PLATFORMS)}")
    found = importlib.import_module(f"detection_pack.platforms.{name}.platform").PLATFORM
    assert isinstance(found, Platform) and found.id == name
    return found


def platforms(names: Sequence[str] = PLATFORMS) -> list[Platform]:
    """These platforms, all by default."""
    return [platform(name) for name in names]

"""Splunk: the files of dist/splunk/, and what runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from detection_pack.languages.conf import conf_text, joined
from detection_pack.model.collection import collection
from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.platform import ImportFiles, Platform, QueryForm, Run, Sources, Stored
from detection_pack.platforms.splunk import imports
from detection_pack.platforms.splunk.app import Credit, app_archive, app_files, credit, exclusion
from detection_pack.platforms.splunk.lists import LISTS_APP, lists_archive
from detection_pack.platforms.splunk.query import COLUMNS, SplunkQuery, exclusions, queries


class Splunk(Platform):
    id = "splunk"
    title = "Splunk"
    fence = "spl"
    forms = (
        QueryForm(".spl", "SPL", "spl"),
        QueryForm(".tstats.spl", "SPL on the accelerated data model", "spl"),
        QueryForm(".raw.spl", "SPL on the events' own fields", "spl"),
    )

    #: The core tier as one search.
    union = f"{id}/remote_email_collection.spl"

    def convert(self, rule: Rule, pipeline: Pipeline) -> SplunkQuery:
        return queries(rule, pipeline)

    def made(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        """``queries/<name>.spl`` and a rule's other forms, and its stanzas of the app."""
        query = queries(rule, pipelines[self.id])
        texts = (query.text, query.data_set_text, query.raw_text)
        files = tuple(
            Artefact(f"{self.id}/queries/{rule.name}{form}.spl", text.encode(), rule.name)
            for form, text in zip(imports.FORMS, texts, strict=True)
            if text is not None
        )
        shared = {
            "branch": branch(query),
            "macros": conf_text(imports.macros_of(query)),
            "sources": {name: list(macro) for name, macro in query.sources.items()},
            "searches": imports.saved_searches_text(rule, query),
            "credit": dataclasses.asdict(credit(rule)),
            "lists": {table.name: table for table in rule.lists.values()},
            "needed": [[one.place, one.sentence(), one.silent] for one in query.needed],
        }
        return Part(rule.name, rule.tier, files, shared)

    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        """The union of the core tier, the macros of all rules and the app."""
        files = []
        core = [one.shared["branch"] for one in parts if one.tier == "core"]
        if core:
            files.append(Artefact(self.union, union(core).encode()))
        macros = [one.shared["macros"] for one in parts]
        sources: dict[str, Sequence[str]] = {}
        for one in parts:
            sources |= one.shared["sources"]
        files.append(
            Artefact(
                imports.MACROS, joined([conf_text(imports.macros_of_sources(sources)), *macros]).encode()
            )
        )
        about = exclusion(imports.shared()[exclusions()][1])
        in_app = joined([conf_text(imports.macros_of_sources(sources) | {exclusions(): about}), *macros])
        credits_of_all = [Credit(**one.shared["credit"]) for one in parts]
        indexes = [name for name, (definition, _) in sources.items() if definition == imports.ANY_INDEX]
        searches = [one.shared["searches"] for one in parts]
        needed = {tuple(one): None for part in parts for one in part.shared["needed"]}
        app = app_files(version, credits_of_all, in_app, searches, indexes, sorted(needed))
        files.append(Artefact(f"{self.id}/{collection().name}-{version}.tgz", app_archive(app)))
        if lists := {name: table for part in parts for name, table in part.shared["lists"].items()}:
            path = f"{self.id}/{LISTS_APP}-{version}.tgz"
            files.append(Artefact(path, lists_archive(lists.values(), version)))
        return files

    def run(self, given: Run) -> list[Hit]:
        from detection_pack.platforms.splunk.run import run

        return run(given)

    def stored(self, events: Sequence[Event], sources: Sources | None = None) -> list[Stored]:
        from detection_pack.platforms.splunk.run import stored

        return stored(events, sources)

    def run_imports(self, given: Run) -> list[Hit]:
        from detection_pack.platforms.splunk.run import run_imports

        return run_imports(given)

    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        return imports.SplunkImports(files)

    def must_run(self, rule: RuleEntry, own: Sequence[str], shared: Sequence[str]) -> list[str]:
        return [
            *super().must_run(rule, own, shared),
            *(p for p in shared if p.endswith(".tgz") and not p.startswith(f"{self.id}/{LISTS_APP}-")),
        ]


def branch(query: SplunkQuery) -> str:
    """A rule's search as one branch of the union."""
    head = "" if query.search.startswith("|") else "search "
    body = f"{head}{query.text.rstrip()}"
    return "  [ " + body.replace("\n", "\n    ") + " ]"


def union(branches: Sequence[str]) -> str:
    """All searches in one, newest first.

    A branch with a transforming command makes `union` append its results as a subsearch's, which ends
    after 60 seconds and 50,000 rows unless told otherwise (Search Reference, "union"). `sort` keeps 10,000
    rows unless it is given 0 (Search Reference, "sort").
    """
    lines = ["| union maxtime=3600 maxout=50000 timeout=3600", *branches]
    lines += [f"| table {', '.join(COLUMNS)}", "| sort 0 -_time"]
    return "\n".join(lines) + "\n"


PLATFORM = Splunk()

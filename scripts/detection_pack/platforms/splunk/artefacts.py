"""The files of dist/splunk/."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from detection_pack.languages.conf import Stanzas, conf_text, joined
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.splunk.app import (
    ANY_INDEX,
    APP,
    ON_DATA_SET,
    ON_RAW_EVENTS,
    Credit,
    app_archive,
    credit,
    exclusion,
    saved_searches_text,
)
from detection_pack.platforms.splunk.query import COLUMNS, EXCLUSIONS, KEEP_ALL, SplunkQuery, queries

PLATFORM = "splunk"
UNION = f"{PLATFORM}/remote_email_collection.spl"
MACROS = f"{PLATFORM}/macros.conf"

#: What every search calls.
SHARED = {
    EXCLUSIONS: (
        KEEP_ALL,
        "Drops what a site allows. The app reads its allow-list here; without the app: every result is kept.",
    ),
}
KNOBS = {
    "lookback": "How far back one run of {rule} looks.",
    "window": "The clock window in which {rule} counts; the text of its alert names the window as shipped.",
    "threshold": "The count at which {rule} alerts.",
    "filter": "What a site drops from the results of {rule}, such as: search NOT UserId=svc@example.com.",
}


def part(rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
    """``queries/<name>.spl`` and a rule's other forms, and its stanzas of the app. Raises `PackError`."""
    query = queries(rule, pipelines[PLATFORM])
    forms = {"": query.text, ON_DATA_SET: query.data_set_text, ON_RAW_EVENTS: query.raw_text}
    files = tuple(
        Artefact(f"{PLATFORM}/queries/{rule.name}{form}.spl", text.encode(), rule.name)
        for form, text in forms.items()
        if text is not None
    )
    shared = {
        "branch": branch(query),
        "macros": conf_text(macros_of(query)),
        "sources": {name: list(macro) for name, macro in query.sources.items()},
        "searches": saved_searches_text(rule, query),
        "credit": dataclasses.asdict(credit(rule)),
    }
    return Part(rule.name, rule.tier, files, shared)


def assembled(parts: Sequence[Part], version: str) -> list[Artefact]:
    """The union of the core tier, the macros of all rules and the app."""
    files = []
    core = [one.shared["branch"] for one in parts if one.tier == "core"]
    if core:
        files.append(Artefact(UNION, union(core).encode()))
    macros = [one.shared["macros"] for one in parts]
    sources: dict[str, Sequence[str]] = {}
    for one in parts:
        sources |= one.shared["sources"]
    files.append(Artefact(MACROS, joined([conf_text(source_macros(sources)), *macros]).encode()))
    about = exclusion(SHARED[EXCLUSIONS][1])
    in_app = joined([conf_text(source_macros(sources) | {EXCLUSIONS: about}), *macros])
    credits_of_all = [Credit(**one.shared["credit"]) for one in parts]
    indexes = [name for name, (definition, _) in sources.items() if definition == ANY_INDEX]
    searches = [one.shared["searches"] for one in parts]
    app = app_archive(version, credits_of_all, in_app, searches, indexes)
    files.append(Artefact(f"{PLATFORM}/{APP}-{version}.tgz", app))
    return files


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


def macros_conf(made: Iterable[SplunkQuery]) -> str:
    """``macros.conf``: the macros of the log sources, then every rule's knobs."""
    queries_of = list(made)
    sources = {name: macro for query in queries_of for name, macro in query.sources.items()}
    return joined([conf_text(source_macros(sources)), *(conf_text(macros_of(query)) for query in queries_of)])


def source_macros(sources: Mapping[str, Sequence[str]]) -> Stanzas:
    """Where the events are, as ``{macro: (definition, description)}`` has it, and what every search calls. A
    site that keeps its events elsewhere edits these in its own macros.conf."""
    return {name: _macro(definition, about) for name, (definition, about) in ({**sources, **SHARED}).items()}


def macros_of(query: SplunkQuery) -> Stanzas:
    """The knobs of one rule."""
    return {
        name: _macro(definition, KNOBS[name.removeprefix(query.name + "_")].format(rule=query.name))
        for name, definition in query.macros.items()
    }


def _macro(definition: str, about: str) -> dict[str, str]:
    return {"definition": definition, "description": about, "iseval": "0"}

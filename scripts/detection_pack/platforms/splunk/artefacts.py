"""The files of dist/splunk/."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from detection_pack.languages.conf import Stanzas, conf_text, joined
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.splunk.app import (
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
from detection_pack.platforms.splunk.raw_events import DEFINITION, MACRO
from detection_pack.platforms.splunk.tstats import OPTIONS, OPTIONS_MACRO

PLATFORM = "splunk"
UNION = f"{PLATFORM}/remote_email_collection.spl"
MACROS = f"{PLATFORM}/macros.conf"

#: Where the events are. A site that keeps them elsewhere edits these in its own macros.conf. A definition
#: of several terms has parentheses ("Use macros with event types and tags", Knowledge Management Manual).
SOURCES = {
    "o365_index": ("index=*", "The index of the Office 365 audit records, such as index=o365."),
    "o365_management_activity": (
        '(`o365_index` sourcetype="o365:management:activity")',
        "Office 365 audit records of the Splunk Add-on for Microsoft Office 365.",
    ),
    "endpoint_index": ("index=*", "The index of the process creations, such as index=wineventlog."),
    "endpoint_processes": (
        "(`endpoint_index` tag=process tag=report)",
        "Process creations, by the tags of the CIM Endpoint.Processes data set.",
    ),
    MACRO: (DEFINITION, "Process creations by Sysmon and the Security log, without the help of any add-on."),
    OPTIONS_MACRO: (
        OPTIONS,
        "How tstats reads Endpoint.Processes; without fillnull_value, events that lack a field are lost.",
    ),
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
    files.append(Artefact(MACROS, joined([conf_text(source_macros()), *macros]).encode()))
    in_app = joined([conf_text(source_macros() | {EXCLUSIONS: exclusion(SOURCES[EXCLUSIONS][1])}), *macros])
    credits_of_all = [Credit(**one.shared["credit"]) for one in parts]
    app = app_archive(version, credits_of_all, in_app, [one.shared["searches"] for one in parts])
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
    """``macros.conf``: the source macros, then every rule's knobs."""
    return joined([conf_text(source_macros()), *(conf_text(macros_of(query)) for query in made)])


def source_macros() -> Stanzas:
    return {name: _macro(definition, about) for name, (definition, about) in SOURCES.items()}


def macros_of(query: SplunkQuery) -> Stanzas:
    """The knobs of one rule."""
    return {
        name: _macro(definition, KNOBS[name.removeprefix(query.name + "_")].format(rule=query.name))
        for name, definition in query.macros.items()
    }


def _macro(definition: str, about: str) -> dict[str, str]:
    return {"definition": definition, "description": about, "iseval": "0"}

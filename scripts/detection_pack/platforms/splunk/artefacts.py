"""The files of dist/splunk/."""

from __future__ import annotations

from collections.abc import Iterable

from detection_pack.findings import Finding, PackError
from detection_pack.pack import Pack
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.splunk.app import APP, app_archive, check_saved_searches
from detection_pack.platforms.splunk.conf import Stanzas, conf_text
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


def artefacts(pack: Pack, skipped: list[Finding] | None = None) -> list[Artefact]:
    """One search a rule, more where a data set or raw events can answer, the union of the core tier, the
    macros of all and the app.

    With ``skipped`` a refused rule is reported there and left out; without, it is raised.
    """
    made: dict[str, SplunkQuery] = {}
    for rule in pack.rules:
        try:
            query = queries(rule, pack.pipelines[PLATFORM])
            check_saved_searches(rule, query)
            made[rule.name] = query
        except PackError as error:
            if skipped is None:
                raise
            skipped.extend(error.findings)
    files = [
        Artefact(f"{PLATFORM}/queries/{name}.spl", query.text.encode(), name) for name, query in made.items()
    ]
    files += [
        Artefact(f"{PLATFORM}/queries/{name}.tstats.spl", text.encode(), name)
        for name, query in made.items()
        if (text := query.data_set_text) is not None
    ]
    files += [
        Artefact(f"{PLATFORM}/queries/{name}.raw.spl", text.encode(), name)
        for name, query in made.items()
        if (text := query.raw_text) is not None
    ]
    core = [made[rule.name] for rule in pack.rules if rule.tier == "core" and rule.name in made]
    if core:
        files.append(Artefact(UNION, union(core).encode()))
    files.append(Artefact(MACROS, macros_conf(made.values()).encode()))
    app = app_archive(pack, made, macros_of_all(made.values()))
    files.append(Artefact(f"{PLATFORM}/{APP}-{pack.version}.tgz", app))
    return files


def union(parts: Iterable[SplunkQuery]) -> str:
    """All searches in one, newest first.

    A branch with a transforming command makes `union` append its results as a subsearch's, which ends
    after 60 seconds and 50,000 rows unless told otherwise (Search Reference, "union"). `sort` keeps 10,000
    rows unless it is given 0 (Search Reference, "sort").
    """
    lines = ["| union maxtime=3600 maxout=50000 timeout=3600"]
    for part in parts:
        head = "" if part.search.startswith("|") else "search "
        body = f"{head}{part.text.rstrip()}"
        lines.append("  [ " + body.replace("\n", "\n    ") + " ]")
    lines += [f"| table {', '.join(COLUMNS)}", "| sort 0 -_time"]
    return "\n".join(lines) + "\n"


def macros_conf(made: Iterable[SplunkQuery]) -> str:
    """``macros.conf``: the source macros, then every rule's knobs."""
    return conf_text(macros_of_all(made))


def macros_of_all(made: Iterable[SplunkQuery]) -> Stanzas:
    stanzas = {name: _macro(definition, about) for name, (definition, about) in SOURCES.items()}
    for query in made:
        for name, definition in query.macros.items():
            about = KNOBS[name.removeprefix(query.name + "_")].format(rule=query.name)
            stanzas[name] = _macro(definition, about)
    return stanzas


def _macro(definition: str, about: str) -> dict[str, str]:
    return {"definition": definition, "description": about, "iseval": "0"}

"""The files of dist/splunk/."""

from __future__ import annotations

from collections.abc import Iterable

from detection_pack.findings import Finding, PackError
from detection_pack.pack import Pack
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.splunk.query import COLUMNS, SplunkQuery, queries

PLATFORM = "splunk"
UNION = f"{PLATFORM}/remote_email_collection.spl"
MACROS = f"{PLATFORM}/macros.conf"

#: Where the events are. A site that keeps them elsewhere edits these in its own macros.conf. A definition
#: of several terms has parentheses ("Use macros with event types and tags", Knowledge Management Manual).
SOURCES = {
    "o365_management_activity": (
        'sourcetype="o365:management:activity"',
        "Office 365 audit records of the Splunk Add-on for Microsoft Office 365; add your index.",
    ),
    "endpoint_processes": (
        "(tag=process tag=report)",
        "Process creations, by the tags of the CIM Endpoint.Processes data set; add your index.",
    ),
}
KNOBS = {
    "lookback": "How far back one run of {rule} looks.",
    "window": "The clock window in which {rule} counts; the text of its alert names the window as shipped.",
    "threshold": "The count at which {rule} alerts.",
}


def artefacts(pack: Pack, skipped: list[Finding] | None = None) -> list[Artefact]:
    """One search a rule, the union of the core tier and the macros of all.

    With ``skipped`` a refused rule is reported there and left out; without, it is raised.
    """
    made: dict[str, SplunkQuery] = {}
    for rule in pack.rules:
        try:
            made[rule.name] = queries(rule, pack.pipelines[PLATFORM])
        except PackError as error:
            if skipped is None:
                raise
            skipped.extend(error.findings)
    files = [
        Artefact(f"{PLATFORM}/queries/{name}.spl", query.text.encode(), name) for name, query in made.items()
    ]
    core = [made[rule.name] for rule in pack.rules if rule.tier == "core" and rule.name in made]
    if core:
        files.append(Artefact(UNION, union(core).encode()))
    files.append(Artefact(MACROS, macros_conf(made.values()).encode()))
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
        body = f"{head}{part.search}\n{part.view}\n| table {', '.join(COLUMNS)}"
        lines.append("  [ " + body.replace("\n", "\n    ") + " ]")
    lines += [f"| table {', '.join(COLUMNS)}", "| sort 0 -_time"]
    return "\n".join(lines) + "\n"


def macros_conf(made: Iterable[SplunkQuery]) -> str:
    """``macros.conf``: the source macros, then every rule's knobs."""
    stanzas = [_stanza(name, definition, about) for name, (definition, about) in SOURCES.items()]
    for query in made:
        for name, definition in query.macros.items():
            about = KNOBS[name.removeprefix(query.name + "_")].format(rule=query.name)
            stanzas.append(_stanza(name, definition, about))
    return "\n".join(stanzas)


def _stanza(name: str, definition: str, about: str) -> str:
    return f"[{name}]\ndefinition = {definition}\ndescription = {about}\niseval = 0\n"

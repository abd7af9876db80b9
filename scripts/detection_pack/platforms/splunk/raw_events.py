"""The third form of a process rule: Sysmon 1 and Security 4688 by the events' own field names.

For a site whose add-ons give its events no CIM fields. The pipeline's ``raw_fields`` says under which names
an event has what the CIM calls ``process``, ``process_path`` and so on; the search narrows by those, gives
them the CIM's names, and then one `where` decides the whole condition, as in the plain search.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.platforms.splunk.predicates import Predicate, conjuncts, text_predicate
from detection_pack.platforms.splunk.tstats import fields_read

MACRO = "endpoint_raw_events"
#: XML events as the add-ons name their sources; classic events have the channel alone as theirs.
DEFINITION = (
    '(`endpoint_index` ((source="*Microsoft-Windows-Sysmon/Operational" EventCode=1)'
    ' OR (source="*Security" EventCode=4688)))'
)


def _narrowing(condition: Predicate, raw: Mapping[str, Sequence[str]]) -> str:
    """The terms that can be searched by the events' own names, each name an alternative."""
    terms = []
    for part in conjuncts(condition):
        if part.text is None or part.derived or part.text.field not in raw:
            continue
        named = [text_predicate(dataclasses.replace(part.text, field=name)) for name in raw[part.text.field]]
        if all(predicate.search for predicate in named):
            terms.append(f"({' OR '.join(f'({predicate.search})' for predicate in named)})")
    return " ".join(terms)


def raw_search(name: str, condition: Predicate, view: str, state: Mapping[str, Any]) -> str | None:
    """The search of a rule on raw events, up to its view; None where they lack a field that it reads."""
    raw: Mapping[str, Sequence[str]] = state.get("raw_fields") or {}
    files: Mapping[str, str] = {file: path for path, file in (state.get("file_name_fields") or {}).items()}
    terms, where = _narrowing(condition, raw), condition.where
    read = fields_read(where, view)
    if "_raw" in where or not read or not all(field in raw or files.get(field) in raw for field in read):
        return None
    named = sorted((read & set(raw)) | {files[field] for field in read if field in files})
    evals = [f"{field}={_coalesced(raw[field])}" for field in named]
    # A user may have the domain before it, a path has the folder: the CIM's names have neither.
    evals += [f"{file}={_last_part(files[file])}" for file in sorted(read) if file in files]
    evals += [f"user={_last_part('user')}"] if "user" in read else []
    return "\n".join(
        (
            f"`{MACRO}` earliest=`{name}_lookback` latest=now{' ' if terms else ''}{terms}",
            f"| eval {', '.join(evals)}",
            f"| where {where}",
        )
    )


def _coalesced(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"coalesce({','.join(names)})"


def _last_part(field: str) -> str:
    return f'replace({field},"^.*[\\x5c/]","")'

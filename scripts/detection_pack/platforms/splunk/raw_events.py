"""The third form of a rule: its events by their own field names.

For a site whose add-ons give its events no CIM fields. The pipeline's state ``raw_events`` says under which
names an event has what the CIM calls ``process``, ``process_path`` and so on; the search narrows by those,
gives them the CIM's names, and then one `where` decides the whole condition, as in the plain search.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence

from detection_pack.platforms.conversion import Converted
from detection_pack.platforms.splunk.predicates import Predicate, conjuncts, lookups, text_predicate
from detection_pack.platforms.splunk.tstats import fields_read


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


def raw_search(name: str, condition: Predicate, view: str, converted: Converted) -> str | None:
    """The search of a rule on raw events, up to its view; None where they lack a field that it reads.

    ``macro`` finds the events, ``fields`` has the events' own names of each field; of the names in
    ``first_values`` the first value counts, and of the fields in ``last_parts`` what stands after the last
    slash or backslash.
    """
    if not (stated := converted.state.get("raw_events")):
        return None
    raw: Mapping[str, Sequence[str]] = stated["fields"]
    paths: Mapping[str, str] = converted.state.get("file_name_fields") or {}
    files = {file: path for path, file in paths.items()}
    terms, where, looked = _narrowing(condition, raw), condition.where, lookups(condition)
    read = fields_read("\n".join([where, *looked]), view, converted)
    if "_raw" in where or not read or not all(field in raw or files.get(field) in raw for field in read):
        return None
    named = sorted((read & set(raw)) | {files[field] for field in read if field in files})
    firsts = set(stated["first_values"])
    evals = [f"{field}={_coalesced(raw[field], firsts)}" for field in named]
    # A user may have the domain before it, a path has the folder: the CIM's names have neither.
    evals += [f"{file}={_last_part(files[file])}" for file in sorted(read) if file in files]
    evals += [f"{field}={_last_part(field)}" for field in stated["last_parts"] if field in read]
    return "\n".join(
        (
            f"`{stated['macro']}` earliest=`{name}_lookback` latest=now{' ' if terms else ''}{terms}",
            f"| eval {', '.join(evals)}",
            *looked,
            f"| where {where}",
        )
    )


def _coalesced(names: Sequence[str], firsts: Container[str]) -> str:
    values = [f"mvindex({name},0)" if name in firsts else name for name in names]
    return values[0] if len(values) == 1 else f"coalesce({','.join(values)})"


def _last_part(field: str) -> str:
    return f'replace({field},"^.*[\\x5c/]","")'

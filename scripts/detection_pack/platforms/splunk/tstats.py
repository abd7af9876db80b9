"""The second form of a process rule: the accelerated data set Endpoint.Processes, read by `tstats`.

The Common Information Model calculates some fields of the data set (Splunk_SA_CIM, Endpoint.json): what an
event lacks is "unknown" there, and a missing process name is taken from the command line. `tstats` drops a
row whose group has a null unless `fillnull_value` names a text for it (Search Reference, "tstats"), and the
same text is used. So `tstats` narrows by what must be in a field, the added texts are taken away again, a
name with its path, and then one `where` decides the whole condition, as in the plain search.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from detection_pack.platforms.splunk.predicates import Predicate, conjuncts, text_predicate

MODEL, DATASET = "Endpoint", "Processes"
#: Log sources of Sigma whose events are in the data set.
CATEGORY = "process_creation"
#: What stands for an absent value, in the data set and in the groups of `tstats`.
ABSENT = "unknown"

OPTIONS_MACRO = "endpoint_processes_summaries"
OPTIONS = f"summariesonly=false allow_old_summaries=true fillnull_value={ABSENT}"

#: The fields of the data set that events bring themselves (Common Information Model manual, "Endpoint").
FIELDS = frozenset(
    {
        "dest",
        "original_file_name",
        "parent_process",
        "parent_process_guid",
        "parent_process_id",
        "parent_process_name",
        "parent_process_path",
        "process",
        "process_current_directory",
        "process_guid",
        "process_hash",
        "process_id",
        "process_integrity_level",
        "process_name",
        "process_path",
        "user",
    }
)

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
#: Conditions that tell an empty value from an absent one, and keywords: neither is in the data set.
_BEYOND = re.compile(r'_raw|coalesce\([^()]*,"x"\)=""|isnotnull\(')


def _narrowing(condition: Predicate) -> str:
    """The terms that `tstats` can narrow by."""
    terms = []
    for part in conjuncts(condition):
        if part.text is not None and not part.derived:
            match = dataclasses.replace(part.text, field=f"{DATASET}.{part.text.field}")
            terms.append(str(text_predicate(match).search))
    return " ".join(terms)


@dataclasses.dataclass(frozen=True)
class DataSetSearch:
    """A search up to its view. ``alert_key`` is an expression: what is started again makes another alert,
    although its row is the same but for the time."""

    text: str
    alert_key: str


def data_set_search(
    name: str, condition: Predicate, view: str, state: Mapping[str, Any]
) -> DataSetSearch | None:
    """The search of a rule on the data set, up to its view; None where the data set cannot answer it.

    ``state`` is the pipeline's, whose ``file_name_fields`` maps the field of a path to that of its file name.
    """
    file_names: Mapping[str, str] = state.get("file_name_fields") or {}
    terms, where = _narrowing(condition), condition.where
    if _BEYOND.search(where) or _words(where, view) & set(state.get("event_fields") or ()):
        return None
    read = fields_read(where, view)
    names = {file: path for path, file in file_names.items() if file in read}
    fields = sorted(read | set(names.values()))
    if not fields:
        return None
    restored = [f"{file}={_unless(path, file)}" for file, path in sorted(names.items())]
    restored += [f"{field}={_unless(field, field)}" for field in fields if field not in names]
    key = "md5(" + ".".join(['lastTime."|"', *(f'coalesce({field},"")."|"' for field in fields)]) + ")"
    text = "\n".join(
        (
            f"| tstats `{OPTIONS_MACRO}` count AS count min(_time) AS firstTime max(_time) AS lastTime"
            f" FROM datamodel={MODEL}.{DATASET} WHERE earliest=`{name}_lookback` latest=now"
            f"{' ' if terms else ''}{terms} BY {' '.join(f'{DATASET}.{field}' for field in fields)}",
            f"| rename {DATASET}.* AS *",
            f"| eval {', '.join(restored)}",
            f"| where {where}",
            "| eval _time=firstTime",
        )
    )
    return DataSetSearch(text, key)


def fields_read(where: str, view: str) -> set[str]:
    """The fields of the data set that a condition and its view name."""
    return _words(where, view) & FIELDS


def _words(where: str, view: str) -> set[str]:
    return set(re.findall(r"\w+", _STRING.sub("", f"{where}\n{view}")))


def _unless(tested: str, field: str) -> str:
    return f'if({tested}="{ABSENT}",null(),{field})'

"""The second form of a rule: the accelerated data set of its events, read by `tstats`.

The Common Information Model calculates some fields of a data set (Splunk_SA_CIM, say Endpoint.json): what an
event lacks is "unknown" there, and a missing process name is taken from the command line. `tstats` drops a
row whose group has a null unless `fillnull_value` names a text for it (Search Reference, "tstats"), and the
same text is used. So `tstats` narrows by what must be in a field, the added texts are taken away again, a
name with its path, and then one `where` decides the whole condition, as in the plain search.

A row is what is the same in one second, the shortest span that `tstats` documents: a start makes the same row
in every run, whatever came before it or comes late, and another start another. Starts that are the same in
their second too are one row, as a record is that is delivered twice.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from detection_pack.platforms.conversion import Converted
from detection_pack.platforms.splunk.predicates import Predicate, conjuncts, lookups, text_predicate

#: What stands for an absent value, in the data set and in the groups of `tstats`.
ABSENT = "unknown"

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
#: Conditions that tell an empty value from an absent one, and keywords: neither is in the data set.
_BEYOND = re.compile(r'_raw|coalesce\([^()]*,"x"\)=""|isnotnull\(')


def _narrowing(condition: Predicate, data_set: str) -> str:
    """The terms that `tstats` can narrow by."""
    terms = []
    for part in conjuncts(condition):
        if part.text is not None and not part.derived:
            match = dataclasses.replace(part.text, field=f"{data_set}.{part.text.field}")
            terms.append(str(text_predicate(match).search))
    return " ".join(terms)


@dataclasses.dataclass(frozen=True)
class DataSetSearch:
    """A search up to its view. ``alert_key`` is an expression: what is started again makes another alert,
    although its row is the same but for the second."""

    text: str
    alert_key: str


def data_set_search(name: str, condition: Predicate, view: str, converted: Converted) -> DataSetSearch | None:
    """The search of a rule on the data set, up to its view; None where the data set cannot answer it.

    The pipeline's state ``data_set`` has its ``name``, model and data set, and the macro of the ``options``
    of tstats; ``file_name_fields`` maps the field of a path to that of its file name.
    """
    state = converted.state
    if not (stated := state.get("data_set")):
        return None
    data_set = str(stated["name"]).rpartition(".")[2]
    file_names: Mapping[str, str] = state.get("file_name_fields") or {}
    terms, where, looked = _narrowing(condition, data_set), condition.where, lookups(condition)
    asked = "\n".join([where, *looked])
    if _BEYOND.search(asked) or _words(asked, view) & set(state.get("event_fields") or ()):
        return None
    read = fields_read(asked, view, converted)
    names = {file: path for path, file in file_names.items() if file in read}
    fields = sorted(read | set(names.values()))
    if not fields:
        return None
    restored = [f"{file}={_unless(path, file)}" for file, path in sorted(names.items())]
    restored += [f"{field}={_unless(field, field)}" for field in fields if field not in names]
    key = "md5(" + ".".join(['_time."|"', *(f'coalesce({field},"")."|"' for field in fields)]) + ")"
    text = "\n".join(
        (
            f"| tstats `{stated['options']}` count AS count"
            f" FROM datamodel={stated['name']} WHERE earliest=`{name}_lookback` latest=now"
            f"{' ' if terms else ''}{terms} BY _time span=1s"
            f" {' '.join(f'{data_set}.{field}' for field in fields)}",
            f"| rename {data_set}.* AS *",
            f"| eval {', '.join(restored)}",
            *looked,
            f"| where {where}",
        )
    )
    return DataSetSearch(text, key)


def fields_read(where: str, view: str, converted: Converted) -> set[str]:
    """The fields of the data set that a condition and its view name: those of the log source but for
    ``event_fields``, which only the events themselves have."""
    files: Mapping[str, str] = converted.state.get("file_name_fields") or {}
    own = {*converted.names, *files.values()} - set(converted.state.get("event_fields") or ())
    return _words(where, view) & own


def _words(where: str, view: str) -> set[str]:
    return set(re.findall(r"\w+", _STRING.sub("", f"{where}\n{view}")))


def _unless(tested: str, field: str) -> str:
    return f'if({tested}="{ABSENT}",null(),{field})'

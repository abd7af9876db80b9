"""What a pipeline's document may say, decided before pySigma reads it.

A pySigma pipeline can read files, call web servers, run programs and fill in templates, some of it while it
is loaded. Nothing of that is here: `transformations.csv` lists the transformations that are allowed, each
with its parameters, and everything else is a finding.
"""

from __future__ import annotations

import copy
import csv
import difflib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sigma.processing.pipeline import ProcessingItem

from detection_pack.model.documents import Document, Key, load_documents
from detection_pack.model.findings import Finding, PackError

FEATURE, PIPELINE = "pipeline-feature", "pipeline"
_KEYS = frozenset({"name", "priority", "allowed_backends", "transformations"})
_CONDITIONS = ("rule", "detection_item", "field_name")
_ITEM_KEYS = frozenset({"id", "type"}).union(
    *({f"{c}_conditions", f"{c}_cond_op", f"{c}_cond_not", f"{c}_cond_expr"} for c in _CONDITIONS)
)


@cache
def transformations() -> dict[str, frozenset[str]]:
    """The allowed transformations and their parameters."""
    path = Path(__file__).with_name("transformations.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {row["type"]: frozenset(row["parameters"].split()) for row in csv.DictReader(file)}


def only(path: Path, text: str) -> Document:
    """The one document of a pipeline's file. Raises `PackError`."""
    documents = load_documents(path, text)
    if len(documents) != 1:
        what, todo = "is not one pipeline", "write one YAML mapping with transformations"
        raise PackError.at(path, 1, what, todo, PIPELINE)
    return documents[0]


def faults(document: Document) -> list[Finding]:
    """Everything that a pipeline may not say, and every item that pySigma does not understand."""
    return list(_faults(document))


def _faults(document: Document) -> Iterator[Finding]:
    if not isinstance(document.data, dict):
        what = "is not one pipeline"
        yield _at(document, (), what, "write one YAML mapping with transformations", PIPELINE)
        return
    for key in document.data:
        if key not in _KEYS:
            yield _at(document, (key,), f'uses "{key}"', "say it with a plain transformation", FEATURE)
    items = document.data.get("transformations") or []
    if not isinstance(items, list):
        yield _at(document, ("transformations",), "is not a list", "write a list of items", PIPELINE)
        return
    for index, item in enumerate(items):
        at = ("transformations", index)
        if not isinstance(item, dict):
            yield _at(document, at, "is not an item", 'write a mapping with a "type"', PIPELINE)
            continue
        refused = list(_item_faults(document, at, item))
        yield from refused or _unread(document, at, item)


def _item_faults(document: Document, at: tuple[Key, ...], item: dict[Any, Any]) -> Iterator[Finding]:
    kind = item.get("type")
    if not isinstance(kind, str) or kind not in transformations():
        near = difflib.get_close_matches(str(kind), list(transformations()), n=1, cutoff=0.7)
        todo = f'did you mean "{near[0]}"?' if near else f"use one of {', '.join(sorted(transformations()))}"
        yield _at(document, (*at, "type"), f'uses the transformation "{kind}"', todo, FEATURE)
        return
    known = transformations()[kind] | _ITEM_KEYS
    for key in item:
        if key not in known:
            what = f'uses "{key}", which is not a plain parameter of {kind}'
            yield _at(document, (*at, key), what, f"use {', '.join(sorted(known))}", FEATURE)


def _unread(document: Document, at: tuple[Key, ...], item: dict[Any, Any]) -> Iterator[Finding]:
    """What pySigma says of an item that is allowed, at the first of its keys that is to blame."""
    try:
        ProcessingItem.from_dict(copy.deepcopy(item))
    except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
        what = str(error).split("\n")[0] or type(error).__name__
        said = re.findall(r"'([^']+)'", what)
        within = [keys for keys in document.lines if keys[: len(at)] == at and len(keys) > len(at)]
        blamed = [keys for keys in within if str(_value(document, keys)) in said or str(keys[-1]) in said]
        todo = "see pySigma's documentation of pipelines"
        yield _at(document, blamed[0] if blamed else at, what, todo, PIPELINE)


def _value(document: Document, keys: tuple[Key, ...]) -> Any:
    value = document.data
    for key in keys:
        value = value[key]
    return value


def _at(document: Document, keys: tuple[Key, ...], what: str, todo: str, check: str) -> Finding:
    return Finding(str(document.path), document.line(*keys), what, todo, check)

"""The trap: code that knows a log source by name, so that the next source needs code, too.

Every name that stands in the folders below pipelines/ (a source, a field of its records, a value of an
enumeration, a table or column, a platform's field, an index, a sourcetype, a macro, a data set) is looked for
in what stands below scripts/. Words of docstrings and comments are for people and do not count.
"""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.model.log_source_reader import load_log_sources

SCRIPTS = ROOT / "scripts"
#: Data of others that the product carries: SigmaHQ's taxonomy names the fields of every log source.
THEIRS = {"sigmahq_taxonomy.json", "sigmahq_filename.json", "sigmahq_windows_validator.json", "attack.csv"}
THEIRS |= {"attack_tactics.csv", "attack_techniques.csv"}
#: Names that stand in scripts/ for something else, each with the reason.
GENERAL: dict[str, str] = {
    # The columns of every alert, as the reference names them, whatever the log source calls them.
    "UserId": "column of the alert view",
    "ClientIP": "column of the alert view",
    # What every table or index of a platform has.
    "TimeGenerated": "the time of every table of Log Analytics",
    "ExtendedProperties": "a column of the table of alerts of Microsoft Sentinel",
    "Timestamp": "the time of every table of Defender XDR",
    "@timestamp": "the time of every document of ECS",
    "_time": "the time of every event of Splunk",
    "category": "a key of Sigma's log source",
    # Words.
    "EventType": "a column that ordered correlations make",
    "Name": "the attribute that names the data of a Windows event, and what a list of names and values has",
    "md5": "a function of SPL",
    "report": "a page that a replay writes",
    "sha256": "an algorithm",
    "time": "a key of source.yml, and a column of what a replay writes",
    "unknown": "what the Common Information Model writes for what is absent",
    "user": "a key of the alert view",
    # Plain words, which activities of Google Workspace have as keys.
    "Value": "the column of a correlation's count, and what a list of names and values has",
    "app": "what Splunk installs",
    "email": "a key of an app's author",
    "etag": "a property of templates",
    "event": "a word of an answer",
    "events": "a key of an answer",
    "key": "a key of pySigma's items",
    "kind": "a key of what is imported",
    "name": "a key of rules and of much else",
    "parameters": "a key of templates",
    "query": "a key of what is imported",
    "type": "a key of pySigma's items and of much else",
    "value": "a key of what a search finds",
    "ContentType": "an option of PowerShell's requests",
    # Plain words, which Microsoft Entra has as columns and keys.
    "Result": "the name of a type variable",
    "displayName": "a key of an analytics rule in a template",
    "result": "the wrapping of what a Splunk search hands out",
    # Algorithms whose digests a field may hold, by the names that pySigma's hashes_fields takes.
    "IMPHASH": "an algorithm",
    "MD5": "an algorithm",
    "SHA1": "an algorithm",
    "SHA256": "an algorithm",
}
#: Words of SQL and of JSON that ingest models write in quotes.
_OF_JSON = {"ARRAY", "FALSE", "False", "NULL", "OBJECT", "TRUE", "True", "VARCHAR", "false", "true"}
#: A name with one of these in it stands for one thing wherever it is written; another is a plain word.
_DISTINCT = re.compile(r"[a-z0-9][A-Z]|[_.:]|\w-\w|[A-Z]{2}|[A-Za-z]\d")
_WORD = re.compile(r"[A-Za-z_@][\w@]*(?:[.:-]\w+)*")
_STATES_OF_NAMES = (
    "query_table",
    "source_macro",
    "index",
    "field_types",
    "derived_fields",
    "data_set",
    "macros",
)


@cache
def names() -> dict[str, str]:
    """Each name with the file that it comes from."""
    found: dict[str, str] = {}
    for source in load_log_sources(ROOT).values():
        for path in sorted(source.folder.iterdir()):
            for name in _READERS.get(path.name, _READERS.get(path.suffix, _nothing))(path):
                found.setdefault(name, path.relative_to(ROOT).as_posix())
        found.setdefault(source.name, f"pipelines/{source.name}")
    return {name: path for name, path in found.items() if len(name) > 2}


def _of_source(path: Path) -> Iterator[str]:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    yield from data["fields"]
    for name, values in data.get("enumerations", {}).items():
        yield name
        yield from values.values() if isinstance(values, dict) else ()
    for form in data.get("exports", ()):
        yield from form.get("csv", ())
        yield from (key for condition in form["recognise"] for key in condition)
        for origin in form.get("fields", {}).values():
            yield from _texts(origin)


def _of_table(path: Path) -> Iterator[str]:
    for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))):
        yield from (row[key] for key in ("table", "column", "name") if key in row)
        yield from [row["value"]] if "types" in row else []


def _of_pipeline(path: Path) -> Iterator[str]:
    for item in yaml.safe_load(path.read_text(encoding="utf-8"))["transformations"]:
        if item["type"] == "field_name_mapping":
            yield from item.get("mapping", {})
            yield from item.get("same", ())
            for mapped in item.get("mapping", {}).values():
                yield from _texts(mapped)
        if item["type"] == "set_state" and item["key"] in _STATES_OF_NAMES:
            value = item["val"]
            yield from value if isinstance(value, dict) and item["key"] != "data_set" else _texts(value)


def _of_sql(path: Path) -> Iterator[str]:
    """The texts of an ingest model that look like a name: sourcetypes, indices, fields."""
    text = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
    for literal in re.findall(r"'((?:[^']|'')*)'", text):
        if re.fullmatch(r"(?:\$\.)?[\w.:-]+", literal) and literal not in _OF_JSON:
            yield literal.removeprefix("$.")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (one for one in value if isinstance(one, str))
    elif isinstance(value, dict):
        yield from (text for one in value.values() for text in _texts(one))


def _nothing(_: Path) -> Iterator[str]:
    yield from ()


_READERS = {"source.yml": _of_source, ".csv": _of_table, ".yml": _of_pipeline, ".sql": _of_sql}


# ---- what scripts/ says -----------------------------------------------------------------------------


def said(path: Path) -> Iterator[tuple[int, str]]:
    """What a file says that is not for people alone."""
    if path.suffix == ".py":
        yield from said_in_python(path.read_text(encoding="utf-8"))
    else:
        yield from said_in_data(path)


def said_in_python(text: str) -> Iterator[tuple[int, str]]:
    """Every text constant of a module with its line, but for docstrings."""
    tree = ast.parse(text)
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def said_in_data(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a data file without their comments."""
    mark = {".sql": "--", ".yml": "#", ".lark": "//"}.get(path.suffix)
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        yield number, line.partition(mark)[0] if mark else line


def found_in(text: str, known: dict[str, str]) -> set[str]:
    """The names that a text holds: the whole text, or a word of it that stands for one thing only."""
    return {word for word in words_of(text) if word in known and word not in GENERAL}


def words_of(text: str) -> set[str]:
    """The whole text, and each word of it that can stand for one thing only."""
    return {text} | {word for word in _WORD.findall(text) if _DISTINCT.search(word)}


def files() -> list[Path]:
    kinds = (".py", ".sql", ".json", ".yml", ".csv", ".lark")
    return [p for p in sorted(SCRIPTS.rglob("*")) if p.suffix in kinds and p.name not in THEIRS]


def hits(path: Path, known: dict[str, str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT).as_posix()}:{line}: {name} ({known[name]})"
        for line, text in said(path)
        for name in sorted(found_in(text, known))
    ]


def test_there_are_names_to_look_for() -> None:
    known = names()
    assert len(known) > 500
    for name in ("RecordType", "OfficeActivity", "AuditLogRecordType", "o365:management:activity", "m365"):
        assert name in known, name


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(SCRIPTS).as_posix())
def test_nothing_below_scripts_knows_a_log_source(path: Path) -> None:
    assert hits(path, names()) == []


def test_every_exception_is_used() -> None:
    assert set(GENERAL) <= names().keys()
    used = {word for path in files() for _, text in said(path) for word in words_of(text)}
    assert set(GENERAL) - used == set()


def test_a_name_in_code_is_noticed() -> None:
    known = {"RecordType": "x", "OfficeActivity": "x", "m365": "x", "process": "x"}
    text = (
        '"""RecordType in prose."""\nx = f"{y} RecordType"  # OfficeActivity\nz = ["process", "a process"]\n'
    )
    found = [(line, found_in(one, known)) for line, one in said_in_python(text)]
    assert [(line, held) for line, held in found if held] == [(2, {"RecordType"}), (3, {"process"})]

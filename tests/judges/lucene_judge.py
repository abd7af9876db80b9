"""Asks Lucene's own query parser and index about query strings, through `lucene/LuceneJudge.java`.

Needs a JDK and the jars of Lucene 8, which Debian and Ubuntu package as liblucene8-java. What of
Elasticsearch's query_string is modelled and what is not is told in LuceneJudge.java.
"""

import base64
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).parent / "lucene" / "LuceneJudge.java"
JARS = Path("/usr/share/java")
NEEDED = ("core", "queryparser", "queries", "analyzers-common")

# A start takes half a second and a query milliseconds: a judge that needs longer hangs.
TIMEOUT_SECONDS = 120


def available() -> str | None:
    """None when the judge can be asked, else the reason for a skip."""
    if shutil.which("javac") is None or shutil.which("java") is None:
        return "a JDK is not installed"
    if any(not _jars(name) for name in NEEDED):
        return "install liblucene8-java"
    return None


def parse(queries: Mapping[str, str]) -> dict[str, str | None]:
    """Query name -> None when the query string parses, else the parser's message."""
    verdicts = _ask("parse", queries, {})
    return {name: verdict if isinstance(verdict, str) else None for name, verdict in verdicts.items()}


def execute(
    queries: Mapping[str, str], documents: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, frozenset[str]]:
    """Query name -> ids of the documents that it finds.

    `documents` is id -> flat field name -> values, each indexed whole as a keyword. A field with no values
    does not exist. Raises ValueError, naming the query, for one that does not parse or cannot be executed.
    """
    found: dict[str, frozenset[str]] = {}
    for name, verdict in _ask("execute", queries, documents).items():
        if isinstance(verdict, str):
            raise ValueError(f"{name}: {verdict}")
        found[name] = verdict
    return found


def _ask(
    mode: str, queries: Mapping[str, str], documents: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, str | frozenset[str]]:
    """Query name -> an error message, or the ids found."""
    request: list[str] = []
    for identifier, fields in documents.items():
        request.append(_line("document", identifier))
        for field, values in fields.items():
            request.extend(_line("value", identifier, field, value) for value in values)
    request.extend(_line("query", name, text) for name, text in queries.items())
    done = subprocess.run(
        ["java", "-cp", f"{_class_path()}:{_compiled().name}", "LuceneJudge", mode],
        input="".join(request),
        capture_output=True,
        encoding="ascii",
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    verdicts: dict[str, str | frozenset[str]] = {}
    for answer in done.stdout.splitlines():
        kind, *encoded = answer.split("\t")
        name, *rest = [base64.b64decode(column).decode() for column in encoded]
        verdicts[name] = rest[0] if kind == "error" else frozenset(rest)
    # A query without an answer would count as one that finds nothing.
    if verdicts.keys() != queries.keys():
        raise RuntimeError(f"no answer to {sorted(queries.keys() - verdicts.keys())}")
    return verdicts


def _line(kind: str, *columns: str) -> str:
    return "\t".join([kind, *(base64.b64encode(column.encode()).decode() for column in columns)]) + "\n"


def _jars(name: str) -> list[Path]:
    return sorted(JARS.glob(f"lucene-{name}-8.*.jar"))[-1:]


def _class_path() -> str:
    return ":".join(str(jar) for name in NEEDED for jar in _jars(name))


@functools.cache
def _compiled() -> tempfile.TemporaryDirectory[str]:
    """The folder of the compiled class: made once a process, removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="lucene-judge-")
    subprocess.run(
        ["javac", "-encoding", "UTF-8", "-cp", _class_path(), "-d", folder.name, str(SOURCE)],
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    return folder

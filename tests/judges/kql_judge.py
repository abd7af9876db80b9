"""Asks Microsoft's own KQL parser about queries, through `kql/judge.mjs`.

Needs node and `npm ci` in `tests/judges/kql`. What the judge can and cannot see is told in judge.mjs.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "kql"

# Loading the parser takes about a second and a query a few milliseconds: a judge that needs longer hangs.
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Diagnostic:
    """One complaint. `start` and `length` count UTF-16 units from 0, `line` counts from 1."""

    code: str
    severity: str
    message: str
    start: int
    length: int
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.code} {self.message}"


@dataclass(frozen=True)
class Column:
    """A column of a result, with the KQL name of its scalar type."""

    name: str
    type: str


@dataclass(frozen=True)
class Analysis:
    """What the parser says of one query; no columns where its last statement yields no table."""

    diagnostics: tuple[Diagnostic, ...]
    columns: tuple[Column, ...]


def available() -> str | None:
    """None when the judge can be asked, else the reason for a skip."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (FOLDER / "node_modules" / "@kusto" / "language-service-next").is_dir():
        return "run npm ci in tests/judges/kql"
    return None


def analyze(
    tables: Mapping[str, Mapping[str, str]],
    queries: Mapping[str, str],
    functions: Mapping[str, str] | None = None,
) -> dict[str, Analysis]:
    """Parse and bind every query against exactly these tables and saved functions.

    `tables` is table -> column -> KQL scalar type, `functions` is name -> "(parameter: type, …) { body }".
    Raises ValueError for a schema or a function that is itself wrong.
    """
    request = {
        "tables": {name: dict(columns) for name, columns in tables.items()},
        "functions": dict(functions or {}),
        "queries": dict(queries),
    }
    done = subprocess.run(
        ["node", "judge.mjs"],
        cwd=FOLDER,
        input=json.dumps(request),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    answer: dict[str, dict[str, list[dict[str, Any]]]] = json.loads(done.stdout)
    return {name: _analysis(answer[name]) for name in queries}


def _analysis(found: dict[str, list[dict[str, Any]]]) -> Analysis:
    return Analysis(
        diagnostics=tuple(Diagnostic(**item) for item in found["diagnostics"]),
        columns=tuple(Column(**item) for item in found["columns"]),
    )

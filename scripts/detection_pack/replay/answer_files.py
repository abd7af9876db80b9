"""An answer as JSON and CSV, for standard output and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection_pack.build.folders import write_file
from detection_pack.model.findings import PackError, printable
from detection_pack.replay.answer import COLUMNS

#: A spreadsheet takes a cell that begins with one of these for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_HEADER = ("time", "rule", *COLUMNS, "platforms", "event", "group", "window", "value")


def json_text(data: Any) -> str:
    """In ASCII: a value out of a log may hold half of a surrogate pair, or what steers a terminal."""
    return json.dumps(data, indent=1) + "\n"


def csv_text(answer: Mapping[str, Any]) -> str:
    """The hits, one a line with a header (RFC 4180). A cell that a spreadsheet would run begins with an
    apostrophe, and what does not print is an escape."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_HEADER)
    for hit in answer["hits"]:
        group = hit["group"]
        cells = [
            hit["time"],
            hit["rule"],
            *(hit["columns"][name] for name in COLUMNS),
            " ".join(hit["platforms"]),
            hit["events"][0] if hit["events"] else "",
            "" if group is None else ", ".join(f"{name}={value}" for name, value in group.items()),
            hit["window"],
            hit["value"],
        ]
        writer.writerow([_safe(cell) for cell in cells])
    return text.getvalue()


def _safe(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return ("'" if text.startswith(_FORMULA) else "") + printable(text)


def write_folder(answer: Mapping[str, Any], folder: Path) -> None:
    """``summary.json`` (what was read, and the rules), ``hits.json`` and ``hits.csv`` in a folder, which is
    made. Raises `PackError` where it cannot be written."""
    summary = {key: value for key, value in answer.items() if key != "hits"}
    files = {
        "summary.json": json_text(summary),
        "hits.json": json_text(answer["hits"]),
        "hits.csv": csv_text(answer),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackError.at(folder, 1, f"cannot be made ({error.strerror})", "name another folder") from error
    for name, text in files.items():
        write_file(folder / name, text.encode("utf-8", "replace"))

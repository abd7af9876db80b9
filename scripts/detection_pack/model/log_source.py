"""What the pack knows of a log source besides any platform: the source.yml of its folder below pipelines/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detection_pack.model.documents import load_documents
from detection_pack.model.findings import Finding, PackError

FILE = "source.yml"


@dataclass(frozen=True)
class LogSource:
    """``logsources``: the Sigma log sources that it serves. ``enumerations``: number -> name, by name."""

    name: str
    folder: Path
    title: str
    logsources: tuple[Mapping[str, str], ...]
    enumerations: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


def load_log_sources(root: Path) -> dict[str, LogSource]:
    """The log sources of ``root``: the folders below pipelines/ that hold a source.yml."""
    found: dict[str, LogSource] = {}
    findings: list[Finding] = []
    for path in sorted((root / "pipelines").glob(f"*/{FILE}")):
        try:
            found[path.parent.name] = _log_source(path)
        except PackError as error:
            findings += error.findings
    if findings:
        raise PackError(findings)
    return found


def _log_source(path: Path) -> LogSource:
    documents = load_documents(path)
    data = documents[0].data if len(documents) == 1 else None
    if not isinstance(data, dict) or not isinstance(data.get("logsources"), list):
        raise PackError.at(path, 1, "is not a log source", 'write its title and its "logsources"')
    return LogSource(
        path.parent.name,
        path.parent,
        str(data.get("title")),
        tuple(data["logsources"]),
        data.get("enumerations") or {},
    )

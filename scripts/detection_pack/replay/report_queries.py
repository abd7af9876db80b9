"""The queries of the rules of a report, as they stand in dist/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.build.dist import rule_entries
from detection_pack.model.findings import PackError, printable
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.platforms.built_file import TODO, built_text
from detection_pack.platforms.platform import platforms


@dataclass(frozen=True)
class ReportQuery:
    """One query. ``text`` is the file's; ``shown`` has what does not print as escapes, line by line."""

    rule: str
    platform: str
    title: str
    language: str
    path: str
    exact: bool
    text: str

    @property
    def shown(self) -> str:
        return "\n".join(printable(line.replace("\t", "    ")) for line in self.text.splitlines())

    @property
    def hidden(self) -> bool:
        """Whether what is copied holds a character that the page shows as an escape."""
        return any(not c.isprintable() for c in self.text.replace("\n", "").replace("\t", ""))


def queries_of(dist: Path, rules: Sequence[str], here: Sequence[str] = PLATFORMS) -> list[ReportQuery]:
    """Every form of each rule's query on these platforms. Raises `PackError` for a file that is missing, and
    for a manifest that names one outside dist/."""
    entries = {entry.name: entry for entry in rule_entries(dist)}
    found = []
    for name in rules:
        for one in platforms(here):
            for form in one.forms:
                path = f"{one.id}/queries/{name}{form.ending}"
                if name in entries and path in entries[name].artefacts:
                    text = built_text(_inside(dist, path))
                    found.append(ReportQuery(name, one.id, one.title, form.language, path, form.exact, text))
    return found


def _inside(dist: Path, path: str) -> Path:
    """The file, which no rule's name and no link may lead out of dist/."""
    found = dist / path
    try:
        inside = found.resolve().is_relative_to(dist.resolve())
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise PackError.at(dist / "manifest.json", 1, f'"{path}" is outside the folder', TODO)
    return found

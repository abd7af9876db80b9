"""The two builds that are compared: what was committed at the base, and what the sources give now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semver import Version

from detection_pack.build.dist import MANIFEST, Built, write
from detection_pack.diff.revision import Revision, UnknownRevision
from detection_pack.diff.versions import version_of
from detection_pack.model.case import Case, events_file, load_cases, log_source_of
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack, load_rules
from detection_pack.model.rule import Rule
from detection_pack.platforms.platform import platforms

#: The endings of the files that are a query and nothing else.
QUERIES = (".kql", ".spl", ".lucene", ".esql")


@dataclass(frozen=True)
class Side:
    """One build: its files, its rules as the manifest lists them and as they are loaded, their cases.

    A rule of the base that today's pack refuses to load is missing in ``rules``. ``settings`` are those of
    each rule's imports, ``parts`` what the files that hold every rule hold of it. All paths are today's;
    ``moved`` has the path that an earlier version gave to a file, by today's.
    """

    dist: Path
    files: Mapping[str, bytes]
    entries: Mapping[str, Mapping[str, Any]]
    rules: Mapping[str, Rule]
    cases: Mapping[str, Sequence[Case]]
    settings: Mapping[str, Mapping[str, str]]
    parts: Mapping[str, Mapping[str, str]]
    moved: Mapping[str, str] = field(default_factory=dict)

    def own(self, rule: str) -> dict[str, bytes]:
        """The files of one rule."""
        paths = [artefact["path"] for artefact in self.entries[rule]["artefacts"]]
        return {path: self.files[path] for path in paths if path in self.files}

    def same(self, other: Side, rule: str) -> bool:
        """Whether users get the same of a rule from both builds."""
        return (
            self.about(rule) == other.about(rule)
            and self.own(rule) == other.own(rule)
            and self.settings[rule] == other.settings[rule]
            and self.parts[rule] == other.parts[rule]
        )

    def queries(self, rule: str) -> dict[str, str]:
        """Those of them that are a query."""
        own = self.own(rule)
        return {path: own[path].decode("utf-8", "replace") for path in sorted(own) if path.endswith(QUERIES)}

    def shared(self) -> dict[str, bytes]:
        """The files that hold every rule, without the manifest."""
        listed = {a["path"] for entry in self.entries.values() for a in entry["artefacts"]}
        return {path: content for path, content in self.files.items() if path not in {*listed, MANIFEST}}

    def about(self, rule: str) -> dict[str, Any]:
        """What the manifest says of a rule, without its files."""
        return {key: value for key, value in self.entries[rule].items() if key != "artefacts"}


def side_of(
    dist: Path,
    files: Mapping[str, bytes],
    rules: Sequence[Rule],
    root: Path | None = None,
    sources: Mapping[str, LogSource] | None = None,
    moved: Mapping[str, str] | None = None,
) -> Side:
    """The build ``files``, which stand in ``dist``, of these rules; ``root`` has their events, if given,
    which are read as records of ``sources``.

    Raises `PackError` for files or events that are not of a pack.
    """
    entries = {entry["name"]: entry for entry in json.loads(files[MANIFEST])["rules"]}
    imports = [platform.imports(files) for platform in platforms()]
    found = {
        name: [s for one in imports for s in (*one.schedules(name), *one.parameters(name))]
        for name in entries
    }
    return Side(
        dist,
        files,
        entries,
        {rule.name: rule for rule in rules if rule.name in entries},
        {}
        if root is None
        else {rule.name: _cases(events_file(root, rule.name), rule, sources or {}) for rule in rules},
        {
            name: {f"{setting.platform}: {setting.of}: {setting.key}": setting.value for setting in settings}
            for name, settings in found.items()
        },
        {name: {k: v for one in imports for k, v in one.parts(name).items()} for name in entries},
        moved or {},
    )


def head_side(pack: Pack, built: Built, dist: Path) -> Side:
    """What the working tree gives; it is written to ``dist``, for the engines."""
    write(built, dist)
    return side_of(dist, built.files, pack.rules, pack.root, pack.sources)


def base_side(revision: Revision, sources: Mapping[str, LogSource]) -> Side:
    """What was committed, in today's layout, its events as records of today's log sources.

    Raises `UnknownRevision`.
    """
    dist = revision.dist
    moved = _in_todays_layout(dist)
    files = {p.relative_to(dist).as_posix(): p.read_bytes() for p in sorted(dist.rglob("*")) if p.is_file()}
    try:
        return side_of(dist, files, load_rules(revision.folder, []), revision.folder, sources, moved)
    except PackError as error:
        raise UnknownRevision(revision.shown(error.findings)) from error


def _in_todays_layout(dist: Path) -> dict[str, str]:
    """Move the files of ``dist`` to where today's engines look for them: ``{path today: path then}``."""
    manifest = json.loads((dist / MANIFEST).read_text(encoding="utf-8"))
    moved: dict[str, str] = {}
    for artefact in (artefact for rule in manifest["rules"] for artefact in rule["artefacts"]):
        then = now = artefact["path"]
        for one in platforms():
            now = one.path_today(now)
        if now != then and (dist / then).is_file() and not (dist / now).exists():
            (dist / now).parent.mkdir(parents=True, exist_ok=True)
            (dist / then).rename(dist / now)
            artefact["path"], moved[now] = now, then
    (dist / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return moved


def base_version(revision: Revision) -> Version:
    """The version under which the base was built. Raises `UnknownRevision`."""
    manifest = json.loads((revision.dist / MANIFEST).read_text(encoding="utf-8"))
    try:
        return version_of(str(manifest.get("version")), revision.dist / MANIFEST)
    except PackError as error:
        raise UnknownRevision(revision.shown(error.findings)) from error


def _cases(path: Path, rule: Rule, sources: Mapping[str, LogSource]) -> list[Case]:
    return load_cases(path, log_source_of(rule, sources)) if path.is_file() else []

"""Which files a run checks, and as what: rules, pipelines or events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.model.documents import load_documents
from detection_pack.model.findings import PackError
from detection_pack.model.pipeline import pipeline_files
from detection_pack.model.rule import TIERS
from detection_pack.model.rule_files import rule_files, yaml_files


@dataclass(frozen=True)
class Files:
    """What is to be checked, by kind. ``whole`` is the pack as it stands. ``folders`` are the rules among
    them that are not the pack's, by the folder that was named; those that were named themselves go together
    under None."""

    rules: tuple[tuple[Path, str], ...]
    pipelines: tuple[Path, ...]
    events: tuple[Path, ...]
    whole: bool = False
    folders: tuple[tuple[Path | None, tuple[Path, ...]], ...] = ()


def files_of(root: Path, paths: Sequence[Path]) -> Files:
    """The files of ``paths``: a rule of the pack has its tier, any other the tier "other"."""
    if not paths or any(path.resolve() == root.resolve() for path in paths):
        events = sorted((root / "tests" / "events").glob("*.yml"))
        pipelines = own_pipelines(root)
        others = files_of(root, [p for p in paths if p.resolve() != root.resolve()]) if paths else None
        extra = others.rules if others else ()
        inside = {path.resolve() for path, _ in rule_files(root)}
        outside = tuple(entry for entry in extra if entry[0].resolve() not in inside)
        folders = others.folders if others else ()
        return Files((*rule_files(root), *outside), tuple(pipelines), tuple(events), True, folders)
    rules: list[tuple[Path, str]] = []
    pipelines, events = [], []
    folders_of: dict[Path, Path | None] = {}
    for given in paths:
        for path in yaml_files(given) if given.is_dir() else [given]:
            folders_of.setdefault(path, given if given.is_dir() else None)
    for path in folders_of:
        parent = path.parent.resolve()
        if parent.parent == (root / "pipelines").resolve() or _says(path, {"transformations"}):
            pipelines.append(path)
        elif parent == (root / "tests" / "events").resolve() or _says(path, {"match", "no_match"}):
            events.append(path)
        else:
            tiers = {(root / "sigma" / tier).resolve(): tier for tier in TIERS}
            rules.append((path, tiers.get(parent, "other")))
    together: dict[Path | None, list[Path]] = {}
    for path, tier in rules:
        if tier not in TIERS:
            together.setdefault(folders_of[path], []).append(path)
    folders = tuple((folder, tuple(listed)) for folder, listed in together.items())
    return Files(tuple(rules), tuple(pipelines), tuple(events), folders=folders)


def own_pipelines(root: Path) -> list[Path]:
    """The pySigma files of the pack's log sources."""
    folders = sorted(folder for folder in (root / "pipelines").glob("*") if folder.is_dir())
    return [path for folder in folders for path in pipeline_files(folder)]


def _says(path: Path, keys: set[str]) -> bool:
    """Whether a file's first document has one of these keys, and so is no rule."""
    try:
        documents = load_documents(path, None, [])
    except PackError:
        return False
    return bool(documents) and isinstance(documents[0].data, dict) and bool(keys & set(documents[0].data))

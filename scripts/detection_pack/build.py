"""The pack into dist/: every artefact of every platform, and the manifest that lists them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.events import RuleEntry
from detection_pack.findings import Finding, PackError
from detection_pack.pack import PLATFORMS, Pack, Rule
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.elastic import artefacts as elastic
from detection_pack.platforms.sentinel import artefacts as sentinel
from detection_pack.platforms.splunk import artefacts as splunk

Maker = Callable[[Pack, list[Finding] | None], list[Artefact]]
MAKERS: dict[str, Maker] = {
    "sentinel": sentinel.artefacts,
    "splunk": splunk.artefacts,
    "elastic": elastic.artefacts,
}
MANIFEST = "manifest.json"
#: What a manifest says of itself; a folder with another manifest.json is somebody else's.
GENERATOR = "T1114.002 detection pack"


@dataclass(frozen=True)
class Built:
    """Every file of dist/ by its relative path, and what was refused on the way."""

    files: dict[str, bytes]
    refused: tuple[Finding, ...] = ()


def make(pack: Pack, keep_going: bool = False) -> Built:
    """All files of dist/, in memory. A refused rule raises `PackError`, or with ``keep_going`` is left out
    on every platform (an artefact that only two platforms have would not be the same rule everywhere)."""
    refused: list[Finding] = []
    kept = pack
    made: dict[str, list[Artefact]] = {}
    for platform in PLATFORMS:
        skipped: list[Finding] = []
        made[platform] = MAKERS[platform](kept, skipped)
        refused += skipped
    if refused and not keep_going:
        raise PackError(dict.fromkeys(refused))
    if refused:
        named = {finding.path for finding in refused}
        kept = Pack(
            pack.root, pack.version, tuple(r for r in pack.rules if str(r.path) not in named), pack.pipelines
        )
        made = {platform: MAKERS[platform](kept, None) for platform in PLATFORMS}
    files = {a.path: a.content for platform in PLATFORMS for a in made[platform]}
    files[MANIFEST] = _json(manifest(kept, [a for p in PLATFORMS for a in made[p]]))
    return Built(files, tuple(dict.fromkeys(refused)))


def manifest(pack: Pack, artefacts: Sequence[Artefact]) -> dict[str, Any]:
    """What dist/ holds: the pack's version, each rule with its artefacts, and the artefacts of all rules."""
    return {
        "generator": GENERATOR,
        "version": pack.version,
        "rules": [_entry(rule, artefacts) for rule in pack.rules],
        "artefacts": [_digest(a) for a in sorted(artefacts, key=lambda a: a.path) if a.rule is None],
    }


def _entry(rule: Rule, artefacts: Sequence[Artefact]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": rule.name,
        "id": rule.id,
        "title": rule.title,
        "tier": rule.tier,
        "level": rule.level,
        "attack": list(rule.techniques),
    }
    if rule.main.data.get("confidence") is not None:
        entry["confidence"] = str(rule.main.data["confidence"])
    if (correlation := rule.correlation) is not None:
        entry["correlation"] = {
            "type": correlation.type,
            "group_by": list(correlation.group_by),
            "window_seconds": correlation.window,
        }
    entry["artefacts"] = [_digest(a) for a in sorted(artefacts, key=lambda a: a.path) if a.rule == rule.name]
    return entry


def _digest(artefact: Artefact) -> dict[str, str]:
    return {"path": artefact.path, "sha256": hashlib.sha256(artefact.content).hexdigest()}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def rule_entries(dist: Path) -> list[RuleEntry]:
    """The rules that stand in dist/manifest.json. Raises `PackError`."""
    return [
        RuleEntry(
            rule["name"],
            tuple(rule.get("correlation", {}).get("group_by", ())),
            rule.get("correlation", {}).get("window_seconds"),
        )
        for rule in _manifest(dist)["rules"]
    ]


def _manifest(dist: Path) -> dict[str, Any]:
    path = dist / MANIFEST
    try:
        listed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for artefact in [*listed["artefacts"], *(a for r in listed["rules"] for a in r["artefacts"])]:
            assert isinstance(artefact["path"], str)
        assert all(isinstance(rule["name"], str) for rule in listed["rules"])
    except OSError as error:
        raise PackError.at(path, 1, "cannot be read", "run detection-pack build") from error
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise PackError.at(path, 1, "is not a manifest of this pack", "run detection-pack build") from error
    return listed


def manifest_paths(dist: Path, rule: str) -> tuple[list[str], list[str]]:
    """The artefacts of one rule, and those that hold every rule, as dist/manifest.json lists them."""
    listed = _manifest(dist)
    own = [a["path"] for r in listed["rules"] if r["name"] == rule for a in r["artefacts"]]
    return own, [a["path"] for a in listed["artefacts"]]


@dataclass(frozen=True)
class Folder:
    """A folder that is written whole: its files by relative path.

    One that is there already is ours if its file ``mark`` holds ``signature``, or, where it has no such file
    yet, if all its files do.
    """

    path: Path
    files: Mapping[str, bytes]
    mark: str
    signature: str


def write(built: Built, out: Path, *others: Folder) -> None:
    """Replace ``out`` by the build, and the other folders by theirs, all of them or none."""
    replace_folders([Folder(out, built.files, MANIFEST, GENERATOR), *others])


def replace_folder(out: Path, files: Mapping[str, bytes], mark: str, signature: str) -> None:
    """Replace the folder ``out`` whole by ``files``; see `replace_folders`."""
    replace_folders([Folder(out, files, mark, signature)])


def replace_folders(folders: Sequence[Folder]) -> None:
    """Replace every folder whole. Nothing is written unless everything can be.

    A folder with files that is not one of ours is refused rather than deleted. All new folders are made
    beside the old ones before the first takes its name, in one rename each; one that cannot puts the others
    back. Raises `PackError`.
    """
    for folder in folders:
        _check_replaceable(folder)
    fresh: list[Path] = []
    moved: list[tuple[Path, Path]] = []
    out = folders[0].path
    try:
        for folder in folders:
            out = folder.path
            out.parent.mkdir(parents=True, exist_ok=True)
            fresh.append(Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent)))
            _fill(fresh[-1], folder.files)
        for folder, made in zip(folders, fresh, strict=True):
            out, old = folder.path, made.with_name(made.name + "-old")
            if out.exists():
                out.rename(old)
            moved.append((out, old))
            made.rename(out)
    except OSError as error:
        for path, old in reversed(moved):
            _put_back(path, old)
        raise PackError.at(
            out, 1, f"cannot be written ({error.strerror})", "check its permissions"
        ) from error
    finally:
        for made in fresh:
            shutil.rmtree(made, ignore_errors=True)
    for _, old in moved:
        shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(folder: Folder) -> None:
    out = folder.path
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise PackError.at(out, 1, "is not a folder", "name a folder for --out")
    marked = [out / folder.mark] if (out / folder.mark).exists() else _not_folders(out)
    if not all(_signed(path, folder.signature) for path in marked):
        raise PackError.at(out, 1, "holds files that no build made", "name an empty folder for it")


def _fill(fresh: Path, files: Mapping[str, bytes]) -> None:
    for relative, content in sorted(files.items()):
        target = fresh / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)
    fresh.chmod(0o755)


def _put_back(out: Path, old: Path) -> None:
    """Undo a folder's replacement, as far as it came."""
    with contextlib.suppress(OSError):
        if out.exists():
            shutil.rmtree(out)
        if old.exists():
            old.rename(out)


def _not_folders(out: Path) -> Iterator[Path]:
    return (path for path in out.rglob("*") if path.is_symlink() or not path.is_dir())


def _signed(path: Path, signature: str) -> bool:
    try:
        return signature.encode() in path.read_bytes()
    except OSError:
        return False


def stale(built: Built, out: Path, *others: Folder) -> list[Finding]:
    """What ``build --check`` reports: each file of ``out`` that is not what the sources give, and then the
    same of the other folders."""
    findings = _stale(out, built.files, "dist/")
    for folder in others:
        findings += _stale(folder.path, folder.files, f"{folder.path.parent.name}/{folder.path.name}/")
    return findings


def _stale(out: Path, files: Mapping[str, bytes], name: str) -> list[Finding]:
    todo = "run detection-pack build"
    findings = []
    for relative, content in sorted(files.items()):
        path = out / relative
        if not path.is_file():
            findings.append(Finding(str(path), 1, "is missing", todo))
        elif (found := path.read_bytes()) != content:
            findings.append(Finding(str(path), _first_difference(found, content), "is stale", todo))
    findings += [
        Finding(str(path), 1, f"does not belong in {name}", todo)
        for path in _files(out)
        if path.relative_to(out).as_posix() not in files
    ]
    return findings


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _first_difference(found: bytes, expected: bytes) -> int:
    lines = zip(found.split(b"\n"), expected.split(b"\n"), strict=False)
    return next((n for n, (a, b) in enumerate(lines, start=1) if a != b), 1)

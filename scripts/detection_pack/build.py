"""The pack into dist/: every artefact of every platform, and the manifest that lists them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack import state
from detection_pack.events import RuleEntry
from detection_pack.findings import Finding, PackError
from detection_pack.outcomes import PARTS, Outcome, Setting, outcome, outcomes_of_files
from detection_pack.pack import (
    PLATFORMS,
    Pack,
    load_pipelines,
    name_taken,
    no_rule,
    pack_version,
    rule_files,
)
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.elastic import artefacts as elastic
from detection_pack.platforms.sentinel import artefacts as sentinel
from detection_pack.platforms.splunk import artefacts as splunk

Assemble = Callable[[Sequence[Part], str], list[Artefact]]
ASSEMBLIES: Mapping[str, Assemble] = {
    "sentinel": sentinel.assembled,
    "splunk": splunk.assembled,
    "elastic": elastic.assembled,
}
MANIFEST = "manifest.json"
#: What a manifest says of itself; a folder with another manifest.json is somebody else's.
GENERATOR = "T1114.002 detection pack"


@dataclass(frozen=True)
class Built:
    """Every file of dist/ by its relative path, what was refused on the way, and how many rules were not.

    ``state`` is what the next build of the same folder takes unchanged rules from; empty for none.
    """

    files: dict[str, bytes]
    refused: tuple[Finding, ...] = ()
    rules: int = 0
    state: bytes = b""


def make(pack: Pack, keep_going: bool = False) -> Built:
    """All files of dist/, in memory. A refused rule raises `PackError`, or with ``keep_going`` is left out
    on every platform (an artefact that only two platforms have would not be the same rule everywhere)."""
    setting = Setting(pack.pipelines, pack.version)
    return _built([outcome(rule, setting) for rule in pack.rules], setting, keep_going)


def make_folder(
    root: Path,
    rules_dir: Path,
    keep_going: bool = False,
    platforms: Sequence[str] = PLATFORMS,
    jobs: int = 1,
    before: Path | None = None,
) -> Built:
    """The same for a folder of anybody's rules, with the pipelines of ``root``, on ``jobs`` processes.

    ``before`` is the folder of an earlier build: a rule that has not changed since is taken from there.
    """
    files = rule_files(root, rules_dir)
    if not files:
        raise no_rule(rules_dir)
    setting = Setting(load_pipelines(root), pack_version(root), tuple(platforms))
    key = state.key(root, setting)
    kept = state.Kept.load(before, key) if before is not None else state.Kept()
    digests = {str(path): state.digest(path) for path, _ in files}
    known = {path: found for path, d in digests.items() if (found := kept.outcome(path, d)) is not None}
    changed = [(path, tier) for path, tier in files if str(path) not in known]
    known |= {made.path: made for made in outcomes_of_files(changed, setting, jobs)}
    every = [known[str(path)] for path, _ in files]
    built = _built(every, setting, keep_going)
    return dataclasses.replace(built, state=state.text(key, every, digests))


def _built(found: Sequence[Outcome], setting: Setting, keep_going: bool) -> Built:
    refused = [finding for one in found for finding in one.refused]
    fine, taken = _distinct([one for one in found if not one.refused])
    refused = list(dict.fromkeys([*refused, *taken]))
    if refused and not keep_going:
        raise PackError(refused)
    made: list[Artefact] = []
    for platform in setting.platforms:
        parts = [one.parts[platform] for one in fine]
        made += [artefact for part in parts for artefact in part.artefacts]
        made += ASSEMBLIES[platform](parts, setting.version)
    files = {artefact.path: artefact.content for artefact in made}
    files[MANIFEST] = _json(manifest(setting.version, [one.entry for one in fine], made))
    return Built(files, tuple(refused), len(fine))


def _distinct(found: Sequence[Outcome]) -> tuple[list[Outcome], list[Finding]]:
    """The outcomes by name, each name and identifier once, and what is refused for having one again."""
    names: dict[str, Outcome] = {}
    refused: list[Finding] = []
    for one in found:
        if (other := names.setdefault(one.name, one)) is not one:
            refused += name_taken(one.path, one.lines["name"], one.name, other.path).findings
    claims: dict[tuple[str, str], str] = {}
    fine: list[Outcome] = []
    for name, one in sorted(names.items()):
        stated = [(platform, claim) for platform, part in one.parts.items() for claim in part.claims]
        owners = {claims.setdefault(claim, name) for claim in stated} - {name}
        if owners:
            what = f'the id is that of the rule "{min(owners)}" too'
            refused.append(Finding(one.path, one.lines["id"], what, "give each rule an id of its own"))
        else:
            fine.append(one)
    return fine, refused


def of_platform(pack: Pack, platform: str) -> list[Artefact]:
    """What one platform makes of the pack. Raises `PackError` for a rule that it refuses."""
    parts = [PARTS[platform](rule, pack.pipelines, pack.version) for rule in pack.rules]
    own = [artefact for part in parts for artefact in part.artefacts]
    return own + ASSEMBLIES[platform](parts, pack.version)


def manifest(
    version: str, entries: Sequence[Mapping[str, Any]], artefacts: Sequence[Artefact]
) -> dict[str, Any]:
    """What dist/ holds: the pack's version, each rule with its artefacts, and the artefacts of all rules."""
    own: dict[str | None, list[dict[str, str]]] = {}
    for artefact in sorted(artefacts, key=lambda a: a.path):
        own.setdefault(artefact.rule, []).append(_digest(artefact))
    return {
        "generator": GENERATOR,
        "version": version,
        "rules": [{**entry, "artefacts": own.get(entry["name"], [])} for entry in entries],
        "artefacts": own.get(None, []),
    }


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


def write(built: Built, out: Path) -> None:
    """Replace ``out`` by the build, whole or not at all. What is already there as it should be stays."""
    files = {**built.files, **({state.FILE: built.state} if built.state else {})}
    if not (out.is_dir() and holds(out, files)):
        replace_folder(out, files, MANIFEST, GENERATOR)


def holds(out: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a folder has exactly these files."""
    there = {path.relative_to(out).as_posix(): path for path in _files(out)}
    return there.keys() == files.keys() and all(p.read_bytes() == files[name] for name, p in there.items())


def replace_folder(out: Path, files: Mapping[str, bytes], mark: str, signature: str) -> None:
    """Replace the folder ``out`` whole by ``files``. Nothing is written unless everything can be.

    A folder is one of ours if its file ``mark`` holds ``signature``; any other that has files is refused
    rather than deleted. The new folder is made beside the old one and takes its name in one rename.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise PackError.at(out, 1, "is not a folder", "name a folder for --out")
    if out.is_dir() and any(out.iterdir()) and not _signed(out / mark, signature):
        raise PackError.at(out, 1, "holds files that no build made", "name an empty folder for --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise PackError.at(
            out, 1, f"cannot be written ({error.strerror})", "check its permissions"
        ) from error
    old = fresh.with_name(fresh.name + "-old")
    try:
        _write_files(fresh, files)
        fresh.chmod(0o755)
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    except OSError as error:
        raise PackError.at(
            out, 1, f"cannot be written ({error.strerror})", "check its permissions"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files with mode 644 below a new folder, with as few calls of the system as there can be."""
    mask = os.umask(0o022)
    try:
        for parent in sorted({relative.rpartition("/")[0] for relative in files} - {""}):
            (folder / parent).mkdir(parents=True, exist_ok=True)
        for relative, content in sorted(files.items()):
            target = os.open(f"{folder}/{relative}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with open(target, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor has no path
                file.write(content)
    finally:
        os.umask(mask)


def _signed(path: Path, signature: str) -> bool:
    try:
        return signature.encode() in path.read_bytes()
    except OSError:
        return False


def stale(built: Built, out: Path) -> list[Finding]:
    """What ``build --check`` reports: each file of ``out`` that is not what the sources give."""
    todo = "run detection-pack build"
    findings = []
    for relative, content in sorted(built.files.items()):
        path = out / relative
        if not path.is_file():
            findings.append(Finding(str(path), 1, "is missing", todo))
        elif (found := path.read_bytes()) != content:
            findings.append(Finding(str(path), _first_difference(found, content), "is stale", todo))
    findings += [
        Finding(str(path), 1, "does not belong in dist/", todo)
        for path in _files(out)
        if path.relative_to(out).as_posix() not in (*built.files, state.FILE)
    ]
    return findings


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _first_difference(found: bytes, expected: bytes) -> int:
    lines = zip(found.split(b"\n"), expected.split(b"\n"), strict=False)
    return next((n for n, (a, b) in enumerate(lines, start=1) if a != b), 1)

"""The pack into dist/: every artefact of every platform, and the manifest that lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack import state
from detection_pack.events import RuleEntry
from detection_pack.findings import Finding, PackError
from detection_pack.folders import Folder, replace_folders, stale_files
from detection_pack.outcomes import PARTS, Outcome, Setting, outcome, outcomes_of_files
from detection_pack.pack import Pack, name_taken, no_rule, pack_version
from detection_pack.pipeline import PLATFORMS, load_pipelines
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.elastic import artefacts as elastic
from detection_pack.platforms.sentinel import artefacts as sentinel
from detection_pack.platforms.splunk import artefacts as splunk
from detection_pack.rule_file import rule_files

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
    """Every file of dist/ by its relative path, what was refused on the way, and how many rules were not."""

    files: dict[str, bytes]
    refused: tuple[Finding, ...] = ()
    rules: int = 0


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
    pipelines: Path | None = None,
) -> Built:
    """The same for a folder of anybody's rules, with the pipelines of ``root`` or those of the folder
    ``pipelines``, on ``jobs`` processes.

    ``before`` is the folder of an earlier build: a rule that has not changed since is taken from there, by
    the state that each build leaves among its files.
    """
    files = rule_files(root, rules_dir)
    if not files:
        raise no_rule(rules_dir)
    setting = Setting(load_pipelines(root, pipelines), pack_version(root), tuple(platforms))
    kept = state.Kept(rules_dir, state.key(pipelines or root / "pipelines", setting), before)
    known = {path: found for path, _ in files if (found := kept.outcome(path)) is not None}
    changed = [(path, tier) for path, tier in files if path not in known]
    made = outcomes_of_files(changed, setting, jobs)
    known |= {path: found for (path, _), found in zip(changed, made, strict=True)}
    every = {path: known[path] for path, _ in files}
    return _built(list(every.values()), setting, keep_going, Artefact(state.FILE, kept.text(every)))


def _built(found: Sequence[Outcome], setting: Setting, keep_going: bool, *more: Artefact) -> Built:
    refused = [finding for one in found for finding in one.refused]
    fine, taken = _distinct([one for one in found if not one.refused])
    refused = list(dict.fromkeys([*refused, *taken]))
    if refused and not keep_going:
        raise PackError(refused)
    made = list(more)
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


def overlap(rules: Path, out: Path) -> bool:
    """Whether a build would replace its own rules, or would take its own output for rules the next time."""
    inner, outer = rules.resolve(), out.resolve()
    return inner == outer or inner in outer.parents or outer in inner.parents


def dist_folder(built: Built, out: Path) -> Folder:
    """The build as the folder that it is written to."""
    return Folder(out, built.files, MANIFEST, GENERATOR)


def write(built: Built, out: Path, *others: Folder) -> None:
    """Replace ``out`` by the build, and the other folders by theirs, all of them or none."""
    replace_folders([dist_folder(built, out), *others])


def stale(built: Built, out: Path, *others: Folder) -> list[Finding]:
    """What ``build --check`` reports: each file of ``out`` that is not what the sources give, and then the
    same of the other folders."""
    findings = stale_files(dist_folder(built, out), "dist/")
    for folder in others:
        findings += stale_files(folder, f"{folder.path.parent.name}/{folder.path.name}/")
    return findings

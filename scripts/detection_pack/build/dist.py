"""The pack into dist/: every artefact of every platform, and the manifest that lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detection_pack.build import navigator
from detection_pack.build.folders import Folder, replace_folders, stale_files
from detection_pack.build.outcomes import INLINED, Outcome, Setting, outcome, outcomes_of_files
from detection_pack.build.tally import Tally, tally
from detection_pack.model.collection import Collection, called, of_folder
from detection_pack.model.event import RuleEntry
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pack import Pack, name_taken, no_rule, pack_version
from detection_pack.model.pipeline import load_pipelines
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import INVESTIGATION
from detection_pack.model.rule_files import rule_files
from detection_pack.model.site_lists import Site
from detection_pack.platforms.conversion import Artefact
from detection_pack.platforms.platform import platform

MANIFEST = "manifest.json"
#: What a manifest says of itself; a folder with another manifest.json is somebody else's.
GENERATOR = "T1114.002 detection pack"


@dataclass(frozen=True)
class Built:
    """Every file of dist/ by its relative path, what was refused on the way, how many rules were not, and the
    same for each platform."""

    files: dict[str, bytes]
    refused: tuple[Finding, ...] = ()
    rules: int = 0
    warnings: tuple[Finding, ...] = ()
    tally: Tally = field(default_factory=Tally)


def make(pack: Pack, keep_going: bool = False, site: Site | None = None) -> Built:
    """All files of dist/, in memory. A rule that a platform cannot say raises `PackError`, or with
    ``keep_going`` is left out on that platform; the manifest then says why. ``site``: its lists become
    objects of the platforms that people edit there."""
    setting = Setting(pack.pipelines, pack.version, sources=pack.sources, site=site)
    plain = [Artefact(f"pipelines/{name}.yml", p.text().encode()) for name, p in pack.pipelines.items()]
    found = [outcome(rule, setting) for rule in pack.rules]
    if site is not None:
        found.append(Outcome("", warnings=tuple(_keeping_none(setting.platforms))))
    return _built(f"{GENERATOR} {pack.version}", found, setting, keep_going, *plain)


def _keeping_none(names: Sequence[str]) -> Iterator[Finding]:
    """What is said of each platform on which a site's lists stand in the queries."""
    for one in map(platform, names):
        if one.keeps_no_lists:
            what = f"{one.title} has no lists of its own: {one.keeps_no_lists}"
            todo = "the rows stand in its queries; to change them, build and import again"
            yield Finding("--lists", 1, what, todo, INLINED, "warning")


def make_folder(
    root: Path,
    rules_dir: Path,
    keep_going: bool = False,
    platforms: Sequence[str] = PLATFORMS,
    jobs: int = 1,
    pipelines: Path | None = None,
    collection: Collection | None = None,
) -> Built:
    """The same for a folder of anybody's rules, with the pipelines of ``root`` or those of the folder
    ``pipelines``, on ``jobs`` processes. ``collection``: its names; by default those of the folder."""
    files = rule_files(root, rules_dir)
    if not files:
        raise no_rule(rules_dir)
    mapped, sources = load_pipelines(root, folder=pipelines), load_log_sources(root, pipelines)
    named = collection or of_folder(rules_dir.resolve().name)
    setting = Setting(mapped, pack_version(root), tuple(platforms), sources=sources, collection=named)
    found = list(outcomes_of_files(files, setting, jobs, rules_dir))
    if not any(one.name or one.unread for one in found):
        said = [replace(warning, severity="error") for one in found for warning in one.warnings]
        raise PackError(dict.fromkeys(said)) if said else no_rule(rules_dir)
    with called(named):
        return _built(named.title, found, setting, keep_going)


def _built(name: str, found: Sequence[Outcome], setting: Setting, keep_going: bool, *more: Artefact) -> Built:
    """``name``: what the rules are called together."""
    refused = [finding for one in found for finding in one.findings]
    fine, taken = _distinct([one for one in found if one.parts])
    refused = list(dict.fromkeys([*refused, *(finding for _, finding in taken)]))
    if refused and not keep_going:
        raise PackError(refused)
    made = list(more)
    for here in setting.platforms:
        parts = [one.parts[here] for one in fine if here in one.parts]
        made += [artefact for part in parts for artefact in part.artefacts]
        made += platform(here).assembled(parts, setting.version)
    # What is asked after an alert finds no technique.
    rules = [navigator.listed(o.entry, list(o.parts)) for o in fine if o.entry["tier"] != INVESTIGATION]
    made.append(Artefact(navigator.PATH, _json(navigator.layer(name, rules))))
    files = {artefact.path: artefact.content for artefact in made}
    listed = manifest(setting.version, [_entry(one) for one in fine], made)
    if not setting.collection.own:
        called_so = {"name": setting.collection.name, "title": setting.collection.title}
        listed = {"generator": listed.pop("generator"), **called_so, **listed}
    files[MANIFEST] = _json(listed)
    warnings = tuple(dict.fromkeys(finding for one in found for finding in one.warnings))
    return Built(files, tuple(refused), len(fine), warnings, tally(found, taken, setting.platforms))


def _entry(one: Outcome) -> dict[str, Any]:
    """The rule's entry of the manifest, with the platforms that have none of its artefacts and the reason."""
    absent = {name: [f.what for f in said] for name, said in one.refused.items()}
    absent |= {name: [why] for name, why in one.absent.items()}
    return {**one.entry, "absent": absent} if absent else dict(one.entry)


def _distinct(found: Sequence[Outcome]) -> tuple[list[Outcome], list[tuple[Outcome, Finding]]]:
    """The outcomes by name, each name and identifier once, and those refused for having one again."""
    names: dict[str, Outcome] = {}
    refused: list[tuple[Outcome, Finding]] = []
    for one in found:
        if (other := names.setdefault(one.name, one)) is not one:
            said = name_taken(one.path, one.lines["name"], one.name, other.path).findings
            refused += [(one, finding) for finding in said]
    claims: dict[tuple[str, str], str] = {}
    fine: list[Outcome] = []
    for name, one in sorted(names.items()):
        stated = [(platform, claim) for platform, part in one.parts.items() for claim in part.claims]
        owners = {claims.setdefault(claim, name) for claim in stated} - {name}
        if owners:
            what = f'the id is that of the rule "{min(owners)}" too'
            refused.append((one, Finding(one.path, one.lines["id"], what, "give each rule an id of its own")))
        else:
            fine.append(one)
    return fine, refused


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
            tuple(artefact["path"] for artefact in rule["artefacts"]),
            str(rule.get("tier", "")),
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


def shared_artefacts(dist: Path) -> list[str]:
    """The artefacts that hold every rule, as dist/manifest.json lists them."""
    return [artefact["path"] for artefact in _manifest(dist)["artefacts"]]


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


def summary(built: Built, out: Path | None) -> dict[str, Any]:
    """What ``build --format json`` prints: the folder written (null for none), counts, each platform's
    tally, and each refusal once, with its file, line and what to do."""
    return {
        "out": None if out is None else str(out),
        "rules": built.rules,
        "files": 0 if out is None else len(built.files),
        **built.tally.as_json(),
        "refused": [
            {"path": one.path, "line": one.line, "what": one.what, "todo": one.todo} for one in built.refused
        ],
    }


def entry_reasons(built: Built, platforms: Sequence[str] = PLATFORMS) -> dict[tuple[str, str], str]:
    """Why a rule is not built on a platform: by the name of a rule that others have and the platform, and by
    the file of a rule that none has and the platform."""
    found: dict[tuple[str, str], str] = {}
    for refusal in built.refused:
        for name in platforms:
            found.setdefault((refusal.path, name), refusal.what)
    for rule in json.loads(built.files[MANIFEST])["rules"]:
        found |= {(rule["name"], name): "; ".join(why) for name, why in rule.get("absent", {}).items()}
    return found

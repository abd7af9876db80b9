"""The pack: its rules and pipelines, loaded and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pipeline import Pipeline, load_pipelines
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.playbook import Guide, Playbook, load_playbook
from detection_pack.model.rule import INVESTIGATION, Rule
from detection_pack.model.rule_files import rule_files
from detection_pack.model.rule_reader import load_rule, read_rules

#: What others detect, of which docs/coverage.md is made.
COVERAGE = Path("reference") / "coverage.yml"


@dataclass(frozen=True)
class Pack:
    """Everything that a build needs. ``root`` is the folder that holds sigma/, pipelines/ and tests/.

    ``pipelines`` are those of the platforms and whatever else stands in pipelines/, by file stem; ``sources``
    the log sources, by the names of their folders; ``playbook`` what is done after an alert.
    """

    root: Path
    version: str
    rules: tuple[Rule, ...]
    pipelines: Mapping[str, Pipeline] = field(repr=False)
    sources: Mapping[str, LogSource] = field(default_factory=dict, repr=False)
    playbook: Playbook = field(default_factory=Playbook, repr=False)

    @cached_property
    def by_name(self) -> Mapping[str, Rule]:
        return {rule.name: rule for rule in self.rules}

    @cached_property
    def detections(self) -> tuple[Rule, ...]:
        """The rules that find something by themselves: all but the investigation queries, which ask for a
        value."""
        return tuple(rule for rule in self.rules if rule.tier != INVESTIGATION)

    def rule(self, name: str) -> Rule:
        return self.by_name[name]


def load_pack(
    root: Path,
    rules_dir: Path | None = None,
    findings: list[Finding] | None = None,
    pipelines_dir: Path | None = None,
) -> Pack:
    """Load ``root``; in place of its own, the rules of ``rules_dir`` and the pipelines of ``pipelines_dir``.

    With ``findings`` a faulty rule is reported there and left out; without, every fault is raised
    together as one `PackError`.
    """
    collected: list[Finding] = [] if findings is None else findings
    rules = load_rules(root, collected, rules_dir)
    try:
        sources = load_log_sources(root, pipelines_dir)
        pipelines = load_pipelines(root, sources=sources, folder=pipelines_dir)
        playbook = load_playbook(root)
    except PackError as error:
        raise PackError([*collected, *error.findings]) from error
    if not rules and not collected:
        raise no_rule(rules_dir or root / "sigma")
    if collected and findings is None:
        raise PackError(collected)
    if rules_dir is None:
        rules = tuple(_guided(rule, rules, sources, pipelines, playbook) for rule in rules)
    return Pack(root, pack_version(root), rules, pipelines, sources, playbook)


def _guided(
    rule: Rule,
    rules: Sequence[Rule],
    sources: Mapping[str, LogSource],
    pipelines: Mapping[str, Pipeline],
    playbook: Playbook,
) -> Rule:
    """The rule with what its artefacts say of an alert of it."""
    if (kind := playbook.kind_of(rule.name)) is None:
        return rule
    source = source_of(sources, rule.logsource)
    fields = {} if source is None else source.fields
    meanings = {name: fields[name].meaning for name in rule.alert.fields if name in fields}
    asked = [one for one in rules if one.name in kind.queries]
    titles = {
        name: {one.name: one.title for one in asked if pipelines[name].absence(one) is None}
        for name in PLATFORMS
        if name in pipelines
    }
    return replace(rule, guide=Guide(kind, meanings, titles))


def load_rules(root: Path, findings: list[Finding], rules_dir: Path | None = None) -> tuple[Rule, ...]:
    """The rules alone, by name, whatever the pipelines are; a faulty one is reported and left out."""
    files = rule_files(root, rules_dir)
    if rules_dir is not None:
        readings = read_rules(files, rules_dir)
        findings += dict.fromkeys(finding for reading in readings for finding in reading.findings)
        fine = (reading.rule for reading in readings if not reading.findings)
        return tuple(sorted((rule for rule in fine if rule is not None), key=lambda rule: rule.name))
    rules: dict[str, Rule] = {}
    for path, tier in files:
        try:
            rule = load_rule(path, tier)
            if rule.name in rules:
                raise name_taken(path, rule.main.line("name"), rule.name, rules[rule.name].path)
            rules[rule.name] = rule
        except PackError as error:
            findings.extend(error.findings)
    return tuple(rules[name] for name in sorted(rules))


def no_rule(where: Path) -> PackError:
    return PackError.at(where, 1, "holds no rule", "name a folder with Sigma rules")


def name_taken(path: Path | str, line: int, name: str, other: Path | str) -> PackError:
    what = f'the name "{name}" is taken by {other}'
    return PackError.at(path, line, what, "give each rule a name of its own")


def pack_version(root: Path) -> str:
    """The pack's version: that of pyproject.toml."""
    path = root / "pyproject.toml"
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackError.at(path, 1, "states no version", 'write "version" under [project]') from error

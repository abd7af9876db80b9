"""The pack: its rules and pipelines, loaded and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pipeline import Pipeline, load_pipelines
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import load_rule, rule_files


@dataclass(frozen=True)
class Pack:
    """Everything that a build needs. ``root`` is the folder that holds sigma/, pipelines/ and tests/.

    ``pipelines`` are those of the platforms and whatever else stands in pipelines/, by file stem; ``sources``
    the log sources, by the names of their folders.
    """

    root: Path
    version: str
    rules: tuple[Rule, ...]
    pipelines: Mapping[str, Pipeline] = field(repr=False)
    sources: Mapping[str, LogSource] = field(default_factory=dict, repr=False)

    def rule(self, name: str) -> Rule:
        return next(rule for rule in self.rules if rule.name == name)


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
    except PackError as error:
        raise PackError([*collected, *error.findings]) from error
    if not rules and not collected:
        raise no_rule(rules_dir or root / "sigma")
    if collected and findings is None:
        raise PackError(collected)
    return Pack(root, pack_version(root), rules, pipelines, sources)


def load_rules(root: Path, findings: list[Finding], rules_dir: Path | None = None) -> tuple[Rule, ...]:
    """The rules alone, by name, whatever the pipelines are; a faulty one is reported and left out."""
    rules: dict[str, Rule] = {}
    for path, tier in rule_files(root, rules_dir):
        try:
            rule = load_rule(path, tier, named_by_stem=rules_dir is not None)
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

"""A log against the rules, from its files to the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detection_pack.build.dist import rule_entries
from detection_pack.build.dist import write as write_dist
from detection_pack.model.event import Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule
from detection_pack.model.site_lists import Site
from detection_pack.platforms.platform import Run, platform
from detection_pack.replay.answer import AboutRule, Answer, RuleAnswer, found_hits
from detection_pack.replay.by_source import by_source, records_of_sources
from detection_pack.replay.inputs import STANDARD_INPUT, absent
from detection_pack.replay.needs import wanted_keys
from detection_pack.replay.reading import Reading, read
from detection_pack.replay.seen import what_was_read
from detection_pack.replay.trial import Change, listed, tried
from detection_pack.replay.verdict import clock_for, selected

#: Told what is being done: a platform and a rule, how many are done and how many there are.
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Asked:
    """What a log is asked. ``rules``: names of rules, none for all of dist/. ``site``: lists whose effect is
    to be shown."""

    dist: Path
    platforms: Sequence[str]
    rules: Sequence[str]
    changes: Sequence[Change] = ()
    strict: bool = False
    verbose: bool = False
    site: Site | None = None


@dataclass(frozen=True)
class Trials:
    """The builds of rules that are tried in another form: with the changes of ``--set`` (None without), and
    by name without what a list leaves out."""

    changed: Path | None = None
    lists: Mapping[str, Path] = field(default_factory=dict)

    @property
    def builds(self) -> list[Path]:
        return [*([] if self.changed is None else [self.changed]), *self.lists.values()]


def opened(
    asked: Asked,
    pack: Pack,
    paths: Sequence[Path],
    folder: Path,
    told: Told,
    further: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Reading, Trials]:
    """The log, with what the rules read of it and ``further`` keys by the name of the source, and the builds
    of the rules that are tried in another form, below ``folder``. Raises `PackError`."""
    if not any(str(path) == STANDARD_INPUT or path.exists() for path in paths):
        raise PackError(list(map(absent, paths)))
    entries = selected(rule_entries(asked.dist), asked.rules)
    names = [entry.name for entry in entries]
    trials = Trials(_built(pack, asked.changes, folder, names), _lists(pack, asked.site, folder, names))
    known = pack.by_name
    wanted = wanted_keys(asked.dist, entries, asked.platforms, pack.sources, known)
    for trial in trials.builds:
        more = wanted_keys(trial, rule_entries(trial), asked.platforms, pack.sources, known)
        wanted = {name: _both(keys, more[name]) for name, keys in wanted.items()}
    wanted = {name: _both(keys, (further or {}).get(name, frozenset())) for name, keys in wanted.items()}
    progress = lambda label, number: told(label, number, 0)  # noqa: E731
    reading = read(paths, pack.sources, wanted, strict=asked.strict, verbose=asked.verbose, progress=progress)
    return reading, trials


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or other is None else one | other


def _built(pack: Pack, changes: Sequence[Change], folder: Path, known: Sequence[str]) -> Path | None:
    if not changes:
        return None
    for change in changes:
        if change.rule not in known:
            raise PackError.at("--set", 1, f'names no rule here: "{change.rule}"', f"use {', '.join(known)}")
    built = tried(pack, changes, folder / "rules")
    if built.refused:
        raise PackError(built.refused)
    write_dist(built, folder / "dist")
    return folder / "dist"


def _lists(pack: Pack, site: Site | None, folder: Path, known: Sequence[str]) -> dict[str, Path]:
    """By the name of each list the build of the rules that it is about, and that of all lists together."""
    found: dict[str, Path] = {}
    for name, built in () if site is None else listed(pack, site, known):
        if built.refused:
            raise PackError(built.refused)
        found[name] = folder / "lists" / str(len(found))
        write_dist(built, found[name])
    return found


def answered(asked: Asked, pack: Pack, reading: Reading, trials: Trials, told: Told) -> Answer:
    """What the rules find in a log that has been read."""
    entries = selected(rule_entries(asked.dist), asked.rules)
    known = pack.by_name
    hits, refused = executed(asked.dist, entries, asked.platforms, reading, pack, told)
    changed: dict[str, Any] = {}
    if trials.changed is not None:
        tried_entries = rule_entries(trials.changed)
        again, _ = executed(trials.changed, tried_entries, asked.platforms, reading, pack, told)
        for change in asked.changes:
            said = changed.get(change.rule, {}).get("set")
            changed[change.rule] = {
                "set": change.text if said is None else f"{said}, {change.text}",
                "hits": len(found_hits(change.rule, again)),
            }
    lists: dict[str, dict[str, int]] = {}
    for name, trial in trials.lists.items():
        of_list = rule_entries(trial)
        again, _ = executed(trial, of_list, asked.platforms, reading, pack, told)
        for entry in of_list:
            lists.setdefault(entry.name, {})[name] = len(found_hits(entry.name, again))
    rules = []
    for entry in entries:
        found = found_hits(entry.name, hits)
        platforms: dict[str, int | str] = {}
        for name in asked.platforms:
            if (reason := refused.get((name, entry.name))) is not None:
                platforms[name] = reason
            elif platform(name).own(entry):
                platforms[name] = sum(name in hit.platforms for hit in found)
        about = _about(entry, known.get(entry.name), pack.sources)
        rules.append(
            RuleAnswer(
                about, found, platforms, reading.span, changed.get(entry.name), lists.get(entry.name, {})
            )
        )
    chosen = [known[entry.name] for entry in entries if entry.name in known]
    return Answer(what_was_read(reading, chosen, pack.sources), tuple(rules))


def _about(entry: RuleEntry, rule: Rule | None, sources: Mapping[str, LogSource]) -> AboutRule:
    if rule is None:
        return AboutRule(entry.name, entry.name, "", "", "")
    source = source_of(sources, rule.logsource)
    return AboutRule(rule.name, rule.title, rule.level, rule.tier, "" if source is None else source.name)


def executed(
    dist: Path,
    entries: Sequence[RuleEntry],
    platforms: Sequence[str],
    reading: Reading,
    pack: Pack,
    told: Told,
) -> tuple[list[Hit], dict[tuple[str, str], str]]:
    """The hits of the rules' own queries, and by (platform, rule) why a rule cannot be run there: the others
    are. Rules for log sources without a record find nothing, and are not run."""
    clock, hits, refused = clock_for(reading.records), list[Hit](), dict[tuple[str, str], str]()
    known = pack.by_name
    groups = [
        (records, group)
        for sources, group in by_source(entries, known, pack.sources)
        if (records := records_of_sources(reading.records, sources)) is not None
    ]
    total, done = len(platforms) * len(entries), 0
    for name in platforms:
        here = platform(name)
        for records, group in groups:
            own = [entry for entry in group if here.own(entry)]
            told(name, done, total)
            done += len(group)
            if not own:
                continue
            given = Run(dist, own, records, clock, records.sources, exact_only=True)
            try:
                hits += here.run(given)
            except PackError:
                for entry in own:
                    told(f"{name}: {entry.name}", done, total)
                    try:
                        hits += here.run(replace(given, rules=[entry]))
                    except PackError as error:
                        refused[name, entry.name] = error.findings[0].what
    told("", total, total)
    return hits, refused

"""Which keys of a log source's records the chosen rules read, found by running them on no records at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from detection_pack.languages.kept import contents, kept
from detection_pack.model.event import Clock, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.rule import Rule
from detection_pack.platforms.platform import Platform, Run, platform
from detection_pack.platforms.records import Probe
from detection_pack.replay.by_source import by_source
from detection_pack.replay.verdict import EVER

#: A query is translated once where it looks back as far as it does when it is run (`clock_for`).
_CLOCK = Clock(datetime(2026, 1, 1, tzinfo=UTC), EVER)


def wanted_keys(
    dist: Path,
    rules: Sequence[RuleEntry],
    platforms: Iterable[str],
    sources: Mapping[str, LogSource],
    known: Mapping[str, Rule],
) -> Mapping[str, frozenset[str] | None]:
    """By the name of each source the top-level keys that these rules read on these platforms, or None where
    one reads whole records. ``known``: the rules of the pack by name. A rule that cannot be run needs
    nothing: the replay itself will say why."""
    wanted: dict[str, set[str]] = {name: set() for name in sources}
    whole: set[str] = set()
    asked = [platform(name) for name in platforms]
    built = {one.id: contents(_files(dist / one.id)) for one in asked}
    model = {source.name: contents(_files(source.folder)) for source in sources.values()}
    for read, entries in by_source(rules, known, sources):
        models = [f"{source.name} {model[source.name]}" for source in read]
        for one in asked:
            own = [rule for rule in entries if one.own(rule)]
            given = [one.id, built[one.id], *models, *map(repr, own)]
            keys_of, read_whole = kept("keys", given, partial(_asked, one, dist, own, read))
            whole |= set(read_whole)
            for name, keys in keys_of.items():
                wanted[name] |= set(keys)
    return {name: None if name in whole else frozenset(keys) for name, keys in wanted.items()}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _asked(
    one: Platform, dist: Path, rules: Sequence[RuleEntry], sources: Sequence[LogSource]
) -> tuple[dict[str, list[str]], list[str]]:
    """By the name of each source the keys that these rules read, and the sources that are read whole."""
    probe = Probe(sources)
    if rules and not _run(one, dist, rules, probe):
        for rule in rules:
            _run(one, dist, [rule], probe)
    return {name: sorted(keys) for name, keys in probe.wanted.items()}, sorted(probe.whole)


def _run(one: Platform, dist: Path, rules: Sequence[RuleEntry], probe: Probe) -> bool:
    try:
        one.run(Run(dist, rules, probe, _CLOCK, probe.sources, exact_only=True))
    except PackError:
        return False
    return True

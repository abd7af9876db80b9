"""What each rule gives to dist/, made one rule at a time, by several processes where there are many rules."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection_pack.model.findings import Finding
from detection_pack.model.literal_wildcards import literal_wildcards
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import read_rule
from detection_pack.platforms.conversion import Part
from detection_pack.platforms.diagnosis import diagnose
from detection_pack.platforms.platform import platform, platforms
from detection_pack.platforms.refusals import attempt

#: Fewer rules than this for each process are not worth the process.
LEAST_FOR_A_PROCESS = 16
#: Rules after which dead ones are looked for.
COLLECT_AFTER = 1000


@dataclass(frozen=True)
class Setting:
    """What every rule is converted with: the pipelines by name, the pack's version and the platforms."""

    pipelines: Mapping[str, Pipeline]
    version: str
    platforms: Sequence[str] = PLATFORMS


@dataclass(frozen=True)
class Outcome:
    """One rule file after conversion. ``entry`` is its entry of the manifest, without its artefacts, and
    ``lines`` are those of its id and name. ``refused`` holds what each platform that cannot say the rule has
    against it, by the platform's id, and ``unread`` why the file is no rule at all. ``warnings`` refuse
    nothing."""

    path: str
    name: str = ""
    entry: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    refused: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    unread: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything against it, once each."""
        said = (finding for findings in self.refused.values() for finding in findings)
        return tuple(dict.fromkeys([*self.unread, *said]))


def outcome(rule: Rule, setting: Setting) -> Outcome:
    """The rule on every platform of the setting."""
    parts: dict[str, Part] = {}
    refused: dict[str, tuple[Finding, ...]] = {}
    for name in setting.platforms:
        made = attempt(platform(name), rule, setting.pipelines, setting.version)
        if isinstance(made, Part):
            parts[name] = made
        else:
            refused[name] = made
    if refused:
        asked = platforms(setting.platforms)
        diagnosis = diagnose(Reading.of(rule), setting.pipelines, asked, setting.version)
        refused = {name: diagnosis.of(name) or said for name, said in refused.items()}
    lines = {key: rule.main.line(key) for key in ("id", "name")}
    entry = manifest_entry(rule) if parts else {}
    warnings = tuple(literal_wildcards(Reading.of(rule)))
    return Outcome(str(rule.path), rule.name, entry, lines, parts, refused, warnings=warnings)


def manifest_entry(rule: Rule) -> dict[str, Any]:
    """What the manifest says of a rule besides its artefacts."""
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
    return entry


def processors() -> int:
    """How many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def outcomes_of_files(files: Sequence[tuple[Path, str]], setting: Setting, jobs: int) -> Iterator[Outcome]:
    """The outcomes of rule files, ``(path, tier)``, in their order, whatever the number of jobs."""
    jobs = min(jobs, len(files) // LEAST_FOR_A_PROCESS)
    if jobs < 2:
        yield from _converted(files, setting)
        return
    # A forked process has the pipelines already; where there is no fork they are sent to it.
    method = "fork" if sys.platform == "linux" else None
    # Several portions a process, so that one with long rules does not keep the others waiting.
    size = -(-len(files) // (jobs * 4))
    portions = [files[start : start + size] for start in range(0, len(files), size)]
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(jobs, context, initializer=_settle_in, initargs=(setting,)) as pool:
        for made in pool.map(_portion, portions):
            yield from made


_settled: list[Setting] = []


def _settle_in(setting: Setting) -> None:
    _settled[:] = [setting]


def _portion(files: Sequence[tuple[Path, str]]) -> list[Outcome]:
    return list(_converted(files, _settled[0]))


@contextmanager
def _without_collection() -> Iterator[None]:
    """pySigma's rules point in circles. Looking for dead ones all the time takes a tenth of a build, and what
    a thousand rules leave is less than 200 MB."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _converted(files: Sequence[tuple[Path, str]], setting: Setting) -> Iterator[Outcome]:
    with _without_collection():
        for number, (path, tier) in enumerate(files, start=1):
            reading = read_rule(path, tier, named_by_stem=True)
            if reading.rule is None or reading.findings:
                yield Outcome(str(path), unread=reading.findings)
            else:
                yield outcome(reading.rule, setting)
            if number % COLLECT_AFTER == 0:
                gc.collect()

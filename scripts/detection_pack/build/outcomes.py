"""What each rule gives to dist/, made one rule at a time, by several processes where there are many rules."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detection_pack.build.meaning import meaning
from detection_pack.model.attack import Attack, attack, technique_faults, using
from detection_pack.model.collection import PACK, Collection, called
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.list_table import NotMaintained
from detection_pack.model.log_source import LogSource
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.reading import Reading
from detection_pack.model.rule import TIERS, Rule
from detection_pack.model.rule_reader import gathered, judged
from detection_pack.model.rule_texts import unforeseen
from detection_pack.model.site_lists import Site
from detection_pack.platforms.conversion import Part
from detection_pack.platforms.diagnosis import diagnose, no_data, unfilled
from detection_pack.platforms.platform import platform, platforms
from detection_pack.platforms.refusals import attempt

#: The check of what is said of a list whose rows stand in a query.
INLINED = "list-in-query"
#: Fewer rules than this for each process are not worth the process.
LEAST_FOR_A_PROCESS = 16
#: Rules after which dead ones are looked for.
COLLECT_AFTER = 1000


@dataclass(frozen=True)
class Setting:
    """What every rule is converted with: the pipelines by name, the pack's version, the platforms, and the
    version of ATT&CK in use, the log sources, for what is to be said of a rule's values, and the site whose
    lists are kept on the platforms that can keep them."""

    pipelines: Mapping[str, Pipeline]
    version: str
    platforms: Sequence[str] = PLATFORMS
    attack: Attack = field(default_factory=attack)
    sources: Mapping[str, LogSource] = field(default_factory=dict, repr=False)
    collection: Collection = PACK
    site: Site | None = None


@dataclass(frozen=True)
class Outcome:
    """One rule after conversion, or a file without one. ``entry`` is its entry of the manifest, without its
    artefacts, and ``lines`` are those of its id and name. ``refused`` holds what each platform that cannot
    say the rule has against it, by the platform's id, and ``unread`` why it is no rule at all. ``absent``
    holds why a platform is not given a rule of the pack. ``warnings`` refuse nothing."""

    path: str
    name: str = ""
    entry: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
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
    absent: dict[str, str] = {}
    inlined: list[Finding] = []
    if setting.site is not None:
        try:
            asking, rule = rule, setting.site.asked(rule, [use.id for use in setting.site.uses])
        except PackError as error:
            return Outcome(str(rule.path), unread=error.findings)
    for name in setting.platforms:
        if (why := setting.pipelines[name].absence(rule)) is not None:
            if rule.tier in TIERS:
                absent[name] = why
            else:
                refused[name] = (no_data(rule, platform(name), why),)
            continue
        if setting.site is not None and not platform(name).keeps_no_lists:
            made = _asking(asking, name, setting, setting.site, inlined)
        else:
            made = attempt(platform(name), rule, setting.pipelines, setting.version)
        if isinstance(made, Part):
            parts[name] = made
        else:
            refused[name] = made
    rest = rule
    if refused:
        asked = platforms(setting.platforms)
        diagnosis = diagnose(Reading.of(rule), setting.pipelines, asked, setting.version)
        refused = {name: diagnosis.of(name) or said for name, said in refused.items()}
        rest = diagnosis.rest
    lines = {key: rule.main.line(key) for key in ("id", "name")}
    entry = manifest_entry(rule) if parts else {}
    reading = Reading.of(rule)
    said = (replace(one, severity="warning") for one in meaning(reading, rest, setting.sources))
    warnings = (*said, *technique_faults(reading, "warning"), *unfilled(rule, parts), *inlined)
    return Outcome(str(rule.path), rule.name, entry, lines, parts, absent, refused, warnings=warnings)


def _asking(
    rule: Rule, name: str, setting: Setting, site: Site, inlined: list[Finding]
) -> Part | tuple[Finding, ...]:
    """The rule on a platform, with the lists that it can ask there as tables. What it cannot ask stands in
    the query, and ``inlined`` gets the reason, where there are rows."""
    uses = {use.id: use for use in site.uses_of(rule)}
    why: dict[str, str] = {}
    while True:
        try:
            made = attempt(platform(name), site.asked(rule, why), setting.pipelines, setting.version)
            break
        except NotMaintained as error:
            assert error.use not in why
            why[error.use] = error.why
        except PackError as error:
            return error.findings
    for use_id, said in why.items():
        what = f"the list {uses[use_id].list} is no list in {platform(name).title} for {rule.name}: {said}"
        todo = "its rows stand in the query; to change them, build again"
        asked = uses[use_id].asking
        assert asked is not None
        inlined.append(
            Finding(str(asked.document.path), asked.document.line(), what, todo, INLINED, "warning")
        )
    return made


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
    if rule.credit:
        named = {"author": rule.main.data.get("author"), "license": rule.licence}
        entry |= {key: str(text) for key, text in named.items() if text}
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


def outcomes_of_files(
    files: Sequence[tuple[Path, str]], setting: Setting, jobs: int, folder: Path | None = None
) -> Iterator[Outcome]:
    """The outcomes of rule files, ``(path, tier)``, below ``folder``, in their order, whatever the number of
    jobs. They are read together, because they may refer to one another, and judged and converted apart."""
    readings = gathered(files, folder)
    jobs = min(jobs, len(readings) // LEAST_FOR_A_PROCESS)
    if jobs < 2:
        with called(setting.collection):
            yield from _converted(readings, setting)
        return
    # A forked process has the pipelines already; where there is no fork they are sent to it.
    method = "fork" if sys.platform == "linux" else None
    # Several portions a process, so that one with long rules does not keep the others waiting.
    size = -(-len(readings) // (jobs * 4))
    portions = [readings[start : start + size] for start in range(0, len(readings), size)]
    context = multiprocessing.get_context(method)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, context, initializer=_settle_in, initargs=(setting,))
    try:
        with _undisturbed():
            results = pool.map(_portion, portions)
        for made in results:
            yield from made
    except BaseException:
        # Whoever reads what these write would wait until they have done all of it. The pool itself may wait
        # for ever for processes that have gone, so nobody waits for it.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No signal to end while processes start: Python passes over what is raised in the middle of a fork."""
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:  # Windows, which has no fork either
        yield
        return
    before = mask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)


_settled: list[Setting] = []


def _settle_in(setting: Setting) -> None:
    # A signal to end is the first process's to answer; it ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    _settled[:] = [setting]


def _portion(readings: Sequence[Reading]) -> list[Outcome]:
    # A process that was not forked has the pack's own.
    with using(_settled[0].attack), called(_settled[0].collection):
        return list(_converted(readings, _settled[0]))


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


def _converted(readings: Sequence[Reading], setting: Setting) -> Iterator[Outcome]:
    with _without_collection():
        for number, gathered_reading in enumerate(readings, start=1):
            yield _of_reading(judged(gathered_reading), setting)
            if number % COLLECT_AFTER == 0:
                gc.collect()


def _of_reading(reading: Reading, setting: Setting) -> Outcome:
    if reading.rule is None or reading.findings:
        return Outcome(str(reading.path), unread=reading.findings, warnings=reading.warnings)
    try:
        made = outcome(reading.rule, setting)
    except Exception as error:  # what nobody foresaw in one rule must not end the work on the others
        said = unforeseen(reading.path, reading.rule.main.line(), "built", error)
        return Outcome(str(reading.path), unread=(said,), warnings=reading.warnings)
    return replace(made, warnings=(*reading.warnings, *made.warnings))

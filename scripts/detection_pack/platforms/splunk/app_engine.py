"""Run the app of dist/ as Splunk would: out of the archive, from its .conf files, in its time range."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from detection_pack.languages.conf import Stanzas, read_conf
from detection_pack.languages.spl.spl_parser import UnsupportedSpl
from detection_pack.languages.spl.spl_search import seconds
from detection_pack.languages.spl.spl_steps import Lookup
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.splunk.app import APP, FORMS
from detection_pack.platforms.splunk.run import PLATFORM, Workspace, hits_of


@dataclass(frozen=True)
class App:
    """What a search head would load of an app. ``path`` is relative to dist/."""

    path: str
    saved_searches: Stanzas
    macros: Mapping[str, str]
    lookups: Mapping[str, Lookup]


def open_app(dist: Path) -> App:
    """The one app of ``dist``. Raises `PackError` where there is none or it cannot be read."""
    found = sorted((dist / PLATFORM).glob(f"{APP}-*.tgz"))
    if len(found) != 1:
        raise PackError.at(
            dist / PLATFORM, 1, "does not hold one app", "build the pack: detection-pack build"
        )
    try:
        with tarfile.open(found[0], "r:gz") as archive:
            members = [m for m in archive.getmembers() if m.isfile()]
            files = {m.name: _text(archive, m) for m in members}
        macros = read_conf(files[f"{APP}/default/macros.conf"])
        return App(
            found[0].relative_to(dist).as_posix(),
            read_conf(files[f"{APP}/default/savedsearches.conf"]),
            {name: settings["definition"] for name, settings in macros.items()},
            _lookups(files),
        )
    except (tarfile.TarError, OSError, KeyError, UnicodeDecodeError) as error:
        raise PackError.at(found[0], 1, "is not an app of this pack", "run detection-pack build") from error


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    assert file is not None  # only files are asked for
    return file.read().decode("utf-8")


def _lookups(files: Mapping[str, str]) -> dict[str, Lookup]:
    return {
        name: Lookup(
            list(csv.DictReader(io.StringIO(files[f"{APP}/lookups/{settings['filename']}"], newline=""))),
            settings.get("case_sensitive_match", "true") == "true",
        )
        for name, settings in read_conf(files[f"{APP}/default/transforms.conf"]).items()
    }


def run_app(
    dist: Path,
    rules: Sequence[RuleEntry],
    events: Sequence[Event],
    clock: Clock,
    sources: Iterable[LogSource] | None = None,
) -> list[Hit]:
    """Execute every saved search of these rules, as if it were enabled and before any throttling.

    The artefact of a hit is the archive's path; that of a search on a data set adds its name, so that neither
    form of a rule can hide what the other misses.
    """
    return run(open_app(dist), rules, events, clock, sources)


def run(
    app: App,
    rules: Sequence[RuleEntry],
    events: Sequence[Event],
    clock: Clock,
    sources: Iterable[LogSource] | None = None,
) -> list[Hit]:
    """`run_app` of an app that has been opened."""
    workspace = Workspace(events, sources)
    macros = dict(app.macros)
    if clock.lookback is not None:
        macros |= {name: f"-{clock.lookback}" for name in macros if name.endswith("_lookback")}
    hits: list[Hit] = []
    for rule in rules:
        for stanza in (rule.name + form for form in FORMS):
            settings = app.saved_searches.get(stanza)
            if settings is None:
                continue
            artefact = app.path if stanza == rule.name else f"{app.path}/{stanza}"
            window = _window(settings, clock)
            try:
                rows = workspace.search(settings["search"], macros, clock.now, window, app.lookups)
            except UnsupportedSpl as error:
                todo = "change the rule, or teach languages/spl this SPL"
                raise PackError.at(
                    f"{app.path}/{stanza}", 1, f"unsupported SPL: {error.what}", todo
                ) from error
            hits += hits_of(rule, artefact, rows)
    return hits


def _window(settings: Mapping[str, str], clock: Clock) -> tuple[datetime, datetime]:
    earliest, latest = settings["dispatch.earliest_time"], settings["dispatch.latest_time"]
    if clock.lookback is not None:
        earliest = f"-{clock.lookback}"
    if not earliest.startswith("-") or latest != "now":
        raise UnsupportedSpl(f"the time range {earliest} to {latest}")
    return clock.now - timedelta(seconds=seconds(earliest[1:])), clock.now

"""What every rule makes of a month in which nothing is wrong: ``bench.py month``.

The organisation and what goes on in it are data, reference/month/*.yml, with the source of every rate; a
record has the shape of a case of tests/events, which is executed on every platform. The records go into the
store that `detection-pack replay` fills and through the queries of one platform, because that all platforms
find the same is proven elsewhere; a rule that this platform cannot have runs on the first that has it. What
is counted is alerts: matching records, of a correlation bursts; no throttle of a platform and no grouping
into incidents is taken off.

Every rule is counted three times: without its named filters (``filter_…``), as it is shipped, and with the
Sigma filters that the organisation has written by the rules' own advice (reference/month/filters.yml).
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from detection_pack.build.dist import make_folder, rule_entries
from detection_pack.build.dist import write as write_dist
from detection_pack.model.case import events_file, load_cases, log_source_of
from detection_pack.model.event import Clock, Hit, RuleEntry
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.platform import Platform, Run, platform
from detection_pack.platforms.record_store import RecordStore, Row
from detection_pack.replay.by_source import by_source, records_of_sources
from detection_pack.replay.needs import wanted_keys
from detection_pack.replay.verdict import EVER

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("reference") / "month"
ORGANISATION, ACTIVITIES, FILTERS, FIGURES = "organisation.yml", "activities", "filters.yml", "figures.yml"
#: A rule runs on the first of these that has it. Elastic is first: it lacks the fewest rules.
FIRST = "elastic"
ORDER = (FIRST, *(name for name in PLATFORMS if name != FIRST))
#: How a rule was counted, in the order of the figures.
WITHOUT, SHIPPED, SITE = "without_filters", "as_shipped", "with_site_filters"
#: The most that a rule of level high may raise a week once its filters are on.
MOST_HIGH = 2.0

_PLACEHOLDER = re.compile(r"\$\{([a-z_]+(?:\.[a-z_]+)?)\}")
_NOT_FILTERED = re.compile(r" and not (?:(?:1|all) of )?filter_[\w*]+")
_FALSE_POSITIVE = re.compile(r"([a-z0-9_]+)/([1-9][0-9]?)")
#: Hours of the day, in UTC.
_HOURS = {"office": (8, 17), "night": (1, 4), "always": (0, 23)}
_RUNS = ("daily", "a_day", "a_week", "a_month", "each_a_day", "each_a_month")


class MonthError(Exception):
    """A fault of the month's data, with its place."""


@dataclass(frozen=True, eq=False)
class Template:
    """A record with placeholders, as the JSON text of each of its keys, cut at the placeholders."""

    source: LogSource
    record: Mapping[str, Any]
    times: int
    after: timedelta

    @cached_property
    def keys(self) -> Mapping[str, Sequence[str]]:
        return {key: _PLACEHOLDER.split(_json(value)) for key, value in self.record.items()}

    def key(self, name: str, values: Mapping[str, str]) -> str | None:
        """The JSON text of one key."""
        parts = self.keys.get(name)
        if parts is None:
            return None
        return "".join(_quoted(values[part]) if n % 2 else part for n, part in enumerate(parts))


@dataclass(frozen=True, eq=False)
class Activity:
    """What somebody does again and again. ``thinned``: of so many runs one is made, and counts for all."""

    id: str
    stated: Mapping[str, Any]
    templates: tuple[Template, ...]
    false_positives: tuple[tuple[str, int], ...]
    thinned: int


@dataclass(frozen=True, eq=False)
class Made:
    """One record. ``values`` fill its template."""

    id: str
    activity: Activity
    template: Template
    time: datetime
    values: Mapping[str, str]

    @cached_property
    def texts(self) -> set[str]:
        """Every text of it, in lower case."""
        found = "".join(self.template.key(name, self.values) or "" for name in self.template.keys)
        return {json.loads(text).lower() for text in re.findall(r'"(?:[^"\\]|\\.)*"', found)}


@dataclass(frozen=True)
class Month:
    """The organisation and its activities."""

    folder: Path
    start: datetime
    weeks: int
    mailboxes: int
    groups: Mapping[str, Sequence[Mapping[str, str]]]
    activities: tuple[Activity, ...]
    digest: str

    @property
    def claimed(self) -> dict[tuple[str, int], list[Activity]]:
        """The activities that each false positive of a rule is."""
        found: dict[tuple[str, int], list[Activity]] = {}
        for activity in self.activities:
            for one in activity.false_positives:
                found.setdefault(one, []).append(activity)
        return found


def load_month(pack: Pack, root: Path = ROOT) -> Month:
    """The data of reference/month. Raises `MonthError`."""
    folder = root / FOLDER
    texts = {path: path.read_text(encoding="utf-8") for path in _files(folder)}
    organisation = yaml.safe_load(texts[folder / ORGANISATION])
    groups = {name: list(_members(about)) for name, about in organisation["groups"].items()}
    shapes = _Shapes(pack)
    activities = []
    for path, text in texts.items():
        if path.parent.name == ACTIVITIES:
            data = yaml.safe_load(text)
            shapes.define(data["shapes"])
            activities += [_activity(one, shapes, groups) for one in data["activities"]]
    if repeated := [name for name, n in Counter(one.id for one in activities).items() if n > 1]:
        raise MonthError(f"activities of one name: {', '.join(repeated)}")
    start = datetime.combine(organisation["start"], datetime.min.time(), UTC)
    if start.weekday() != 0:
        raise MonthError("the month must start on a Monday")
    digest = hashlib.sha256("".join(texts[path] for path in sorted(texts)).encode()).hexdigest()
    mailboxes = len(groups[organisation["mailboxes"]])
    return Month(folder, start, organisation["weeks"], mailboxes, groups, tuple(activities), digest)


def _files(folder: Path) -> list[Path]:
    own = [folder / ORGANISATION, folder / FILTERS]
    return [*own, *sorted((folder / ACTIVITIES).glob("*.yml"))]


def _members(about: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    first = about.get("first", 1)
    for number in range(first, first + about.get("count", 1)):
        values = {"n": str(number), "n.high": str(number // 10_000), "n.low": str(number % 10_000)}
        yield {name: _filled_in(str(text), values) for name, text in about["each"].items()}


def _filled_in(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


class _Shapes:
    """Records by name: those of a case of tests/events, or of another shape, with some of it changed."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._known: dict[str, tuple[LogSource, dict[str, Any]]] = {}

    def define(self, stated: Mapping[str, Mapping[str, Any]]) -> None:
        for name, about in stated.items():
            self._known[name] = self.made(about)

    def made(self, about: Mapping[str, Any]) -> tuple[LogSource, dict[str, Any]]:
        if "shape" in about:
            source, record = self._known[about["shape"]]
            record = copy.deepcopy(record)
        else:
            rule = self._pack.rule(about["like"])
            cases = load_cases(
                events_file(self._pack.root, rule.name), log_source_of(rule, self._pack.sources)
            )
            wanted = about.get("case")
            found = [case for case in cases if wanted is None or case.title == wanted]
            if not found:
                raise MonthError(f'{rule.name} has no case "{wanted}"')
            event = found[0].events[about.get("part", 1) - 1]
            source, record = event.source, copy.deepcopy(dict(event.record))
            _set(record, source.time.field, "${time}")
            if len(source.identity) == 1:
                _set(record, source.identity[0], "${id}")
        for path in about.get("absent", ()):
            record.pop(path, None)
        for path, value in about.get("set", {}).items():
            _set(record, path, value)
        return source, record


def _set(record: dict[str, Any], path: str, value: Any) -> None:
    head, dot, rest = path.partition(".")
    if path not in record and dot and isinstance(record.get(head), dict):
        _set(record[head], rest, value)
    else:
        record[path] = value


def _activity(stated: Mapping[str, Any], shapes: _Shapes, groups: Mapping[str, Any]) -> Activity:
    name = stated["id"]
    basis = stated.get("basis", {})
    if len(basis) != 1 or not {"assumption", "counted", "page"} & set(basis):
        raise MonthError(f"{name}: states no basis; write assumption, counted or page")
    if "page" in basis and not re.match(r"https://\S+: ", basis["page"]):
        raise MonthError(f"{name}: a page is its address, a colon and what it says")
    if len(set(stated["runs"]) & set(_RUNS)) != 1:
        raise MonthError(f"{name}: write one of {', '.join(_RUNS)}")
    templates = []
    for about in stated["records"]:
        source, record = shapes.made(about)
        after = timedelta(seconds=_seconds(about.get("after", "0s")))
        templates.append(Template(source, record, about.get("times", 1), after))
    claims = []
    for text in stated.get("falsepositives", ()):
        if (found := _FALSE_POSITIVE.fullmatch(text)) is None:
            raise MonthError(f'{name}: "{text}" is not a rule and the number of its false positive')
        claims.append((found[1], int(found[2])))
    for group in (stated.get("by"), stated.get("over", {}).get("group")):
        if group is not None and group not in groups:
            raise MonthError(f'{name}: no group "{group}"')
    return Activity(name, stated, tuple(templates), tuple(claims), stated.get("thinned", 1))


def _seconds(text: str) -> float:
    return 0.0 if text == "0s" else float(Timespan.parse(text).seconds)


def records(
    month: Month, activities: Iterable[Activity] | None = None, first_day: bool = False
) -> Iterator[Made]:
    """The records of the month, or of some activities alone: those are the same either way, because each has
    random numbers of its own. ``first_day``: of each activity those of 24 hours from its first run on."""
    for activity in month.activities if activities is None else activities:
        rng = random.Random(activity.id)
        number = 0
        runs = sorted(_runs(month, activity, rng), key=lambda run: run[1])
        end = runs[0][1] + timedelta(days=1)
        for actor, start in runs:
            if first_day and start >= end:
                break
            for member, begin in _touched(month, activity, actor, start, rng):
                varied = {key: rng.choice(values) for key, values in activity.stated.get("vary", {}).items()}
                for template in activity.templates:
                    for turn in range(template.times):
                        number += 1
                        moment = begin + template.after + timedelta(seconds=turn)
                        values = {
                            "id": f"{activity.id}-{number}",
                            "number": str(number),
                            "turn": str(turn + 1),
                            "time": _written(template.source, moment),
                            "guid": f"{rng.getrandbits(128):032x}",
                            **{f"by.{key}": value for key, value in actor.items()},
                            **{f"on.{key}": value for key, value in member.items()},
                            **{f"vary.{key}": str(value) for key, value in varied.items()},
                        }
                        yield Made(f"{activity.id}/{number}", activity, template, moment, values)


def _written(source: LogSource, moment: datetime) -> str:
    return str(source.time.written(moment))


def _runs(
    month: Month, activity: Activity, rng: random.Random
) -> Iterator[tuple[Mapping[str, str], datetime]]:
    stated = activity.stated["runs"]
    group = month.groups[activity.stated["by"]]
    days = [month.start + timedelta(days=n) for n in range(7 * month.weeks)]
    working = [day for day in days if day.weekday() < 5]
    first, last = _HOURS[stated.get("at", "office")]

    def at(day: datetime) -> datetime:
        return day + timedelta(seconds=rng.randrange(first * 3600, (last + 1) * 3600 - 1800))

    starts: list[tuple[Mapping[str, str], datetime]] = []
    kind = next(name for name in _RUNS if name in stated)
    count = stated[kind]
    if kind == "daily":
        starts = [(rng.choice(group), at(day)) for day in days for _ in range(count)]
    elif kind == "a_day":
        starts = [(rng.choice(group), at(day)) for day in working for _ in range(count)]
    elif kind == "a_week":
        for week in range(month.weeks):
            own = working[5 * week : 5 * week + 5]
            starts += [(rng.choice(group), at(rng.choice(own))) for _ in range(count)]
    elif kind == "a_month":
        starts = [(rng.choice(group), at(rng.choice(working))) for _ in range(count)]
    else:
        total = len(group) * count * (len(working) if kind == "each_a_day" else 1)
        made = range(round(total / activity.thinned))
        yield from ((rng.choice(group), at(rng.choice(working))) for _ in made)
        return
    yield from starts[:: activity.thinned]


def _touched(
    month: Month, activity: Activity, actor: Mapping[str, str], start: datetime, rng: random.Random
) -> Iterator[tuple[Mapping[str, str], datetime]]:
    """Whom a run is about, one after another; the actor where the activity names nobody else."""
    about = activity.stated.get("over")
    if about is None:
        yield actor, start
        return
    group = [one for one in month.groups[about["group"]] if one is not actor]
    count = min(len(group), rng.randint(about["least"], about.get("most", about["least"])))
    within = _seconds(about["within"])
    moments = sorted(rng.uniform(0, within) for _ in range(count))
    for member, later in zip(rng.sample(group, count), moments, strict=True):
        yield member, start + timedelta(seconds=later)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


# ---- counting ---------------------------------------------------------------------------------------------


@dataclass
class Count:
    """The alerts of one rule: all, those of each activity, and the events or groups that no activity that
    claims the rule explains (``unclaimed``: activity to number)."""

    alerts: float = 0.0
    by_activity: dict[str, float] = field(default_factory=dict)
    unclaimed: dict[str, float] = field(default_factory=dict)

    def add(self, activities: Sequence[str], weight: int, label: str) -> None:
        self.alerts += weight
        for name in activities:
            self.by_activity[name] = self.by_activity.get(name, 0) + weight
        if not activities:
            self.unclaimed[label] = self.unclaimed.get(label, 0) + weight


@dataclass(frozen=True)
class Counted:
    """``rules``: by name, then by how it was counted. ``records`` were made and stand for ``stands_for``."""

    rules: Mapping[str, Mapping[str, Count]]
    records: int
    stands_for: int


def count(
    pack: Pack,
    month: Month,
    activities: Sequence[Activity] | None = None,
    kinds: Sequence[str] = (WITHOUT, SHIPPED, SITE),
    first_day: bool = False,
) -> Counted:
    """Run the month, or the `records` that are asked for, through all rules. Raises `PackError`."""
    known = pack.by_name
    with tempfile.TemporaryDirectory() as scratch:
        built = [(kind, one) for kind in kinds for one in _built(kind, pack, month, Path(scratch) / kind)]
        wanted: dict[str, frozenset[str] | None] = dict.fromkeys(pack.sources) if first_day else {}
        # Of few records whole ones are loaded sooner than it is found out what is read of them.
        for _, one in () if first_day else built:
            read = wanted_keys(one.dist, one.entries, (one.here.id,), pack.sources, known)
            for name, keys in read.items():
                before = wanted.get(name, frozenset())
                wanted[name] = None if keys is None or before is None else before | keys
        made = list(records(month, activities, first_day))
        store = filled(pack, wanted, made)
        clock = Clock(max(record.time for record in made) + timedelta(days=1), EVER)
        by_id = {record.id: record for record in made}
        found: dict[str, dict[str, Count]] = {name: {} for name in known}
        for kind, one in built:
            for entry, hits in executed(pack, one, store, clock):
                claims = _claims(entry.name, made) if kind == SHIPPED else {}
                found[entry.name][kind] = counted_hits(entry, hits, by_id, claims)
    return Counted(found, len(made), sum(record.activity.thinned for record in made))


def filled(pack: Pack, wanted: Mapping[str, frozenset[str] | None], made: Iterable[Made]) -> Any:
    store = RecordStore(pack.sources.values(), wanted)
    for place, one in enumerate(made):
        source = one.template.source
        table = store.tables[source.name]
        keys = tuple(one.template.key(key, one.values) for key in table.columns)
        whole = None
        if table.whole:
            parts = (f"{_json(key)}: {one.template.key(key, one.values)}" for key in one.template.keys)
            whole = "{" + ", ".join(parts) + "}"
        store.add(source, Row(one.id, one.time, 0, place, "", whole, keys))
    return store.records()


@dataclass(frozen=True)
class Build:
    """Rules of one platform, in the folder of their queries."""

    here: Platform
    dist: Path
    entries: Sequence[RuleEntry]


def _built(kind: str, pack: Pack, month: Month, folder: Path) -> list[Build]:
    """The builds of a kind, and the rules in them that it changes: all of what is shipped."""
    dist = pack.root / "dist"
    shipped = by_platform(rule_entries(dist))
    if kind == SHIPPED:
        return [Build(here, dist, entries) for here, entries in shipped]
    filters: list[dict[str, Any]] = []
    if kind == SITE:
        filters = list(yaml.safe_load_all((month.folder / FILTERS).read_text(encoding="utf-8")))
        named = {str(name) for one in filters for name in one["filter"]["rules"]}
        changed = [rule for rule in pack.detections if named & _names(rule)]
        if unknown := named - {name for rule in changed for name in _names(rule)}:
            raise MonthError(f"{FILTERS}: no rule {', '.join(sorted(unknown))}")
        documents = {rule.name: [document.data for document in rule.documents] for rule in changed}
    else:
        documents = {rule.name: _unfiltered(rule) for rule in pack.detections if _filters(rule)}
    found = []
    for here, entries in shipped:
        if own := {one.name: documents[one.name] for one in entries if one.name in documents}:
            found.append(_written_and_built(kind, pack, here, own, filters, folder / here.id))
    return found


def _written_and_built(
    kind: str,
    pack: Pack,
    here: Platform,
    documents: Mapping[str, Sequence[Mapping[str, Any]]],
    filters: Iterable[Mapping[str, Any]],
    folder: Path,
) -> Build:
    """Rules, and what of the filters is about them, built for one platform."""
    rules = folder / "rules"
    rules.mkdir(parents=True)
    names = {str(one["name"]) for own in documents.values() for one in own if "name" in one} | set(documents)
    about = [
        {**one, "filter": {**one["filter"], "rules": kept}}
        for one in filters
        if (kept := [name for name in one["filter"]["rules"] if name in names])
    ]
    if about:
        (rules / FILTERS).write_text(yaml.safe_dump_all(about, sort_keys=False), encoding="utf-8")
    for name, own in documents.items():
        (rules / f"{name}.yml").write_text(yaml.safe_dump_all(own, sort_keys=False), encoding="utf-8")
    write_dist(make_folder(pack.root, rules, platforms=(here.id,)), folder / "dist")
    entries = rule_entries(folder / "dist")
    if (missing := documents.keys() - {entry.name for entry in entries}) or len(entries) != len(documents):
        raise MonthError(f"{kind}: not built as the pack is: {', '.join(sorted(missing))}")
    return Build(here, folder / "dist", entries)


def _names(rule: Rule) -> set[str]:
    return {rule.name, *(str(one.data["name"]) for one in rule.documents if "name" in one.data)}


def _filters(rule: Rule) -> bool:
    return any(name.startswith("filter_") for d in rule.documents for name in d.data.get("detection", ()))


def _unfiltered(rule: Rule) -> list[dict[str, Any]]:
    """The documents of a rule without its named filters."""
    found = []
    for document in rule.documents:
        data = copy.deepcopy(document.data)
        if "detection" in data:
            stated = data["detection"]
            stated["condition"] = _NOT_FILTERED.sub("", stated["condition"])
            if "filter_" in stated["condition"]:
                raise MonthError(f"{rule.name}: cannot leave the filters out of {stated['condition']}")
            data["detection"] = {k: v for k, v in stated.items() if not k.startswith("filter_")}
        found.append(data)
    return found


def executed(pack: Pack, built: Build, store: Any, clock: Clock) -> Iterator[tuple[RuleEntry, list[Hit]]]:
    known = pack.by_name
    here = built.here
    for sources, group in by_source(built.entries, known, pack.sources):
        given = records_of_sources(store, sources)
        hits = []
        if given is not None:
            hits = here.run(Run(built.dist, group, given, clock, given.sources, exact_only=True))
        for entry in group:
            own = [hit for hit in hits if hit.rule == entry.name]
            yield entry, [hit for hit in own if here.is_own_query(hit.artefact, entry.name)]


def _platform_of(entry: RuleEntry) -> Platform:
    """The platform on which a rule is counted."""
    for here in map(platform, ORDER):
        if here.own(entry):
            return here
    raise MonthError(f"{entry.name} is built for no platform")


def by_platform(entries: Iterable[RuleEntry]) -> list[tuple[Platform, list[RuleEntry]]]:
    found: dict[str, list[RuleEntry]] = {}
    for entry in entries:
        found.setdefault(_platform_of(entry).id, []).append(entry)
    return [(platform(name), found[name]) for name in ORDER if name in found]


def _claims(rule: str, made: Iterable[Made]) -> dict[str, list[Made]]:
    found: dict[str, list[Made]] = {}
    for one in made:
        if any(name == rule for name, _ in one.activity.false_positives):
            found.setdefault(one.activity.id, []).append(one)
    return found


def counted_hits(
    entry: RuleEntry,
    hits: Sequence[Hit],
    known: Mapping[str, Made],
    claims: Mapping[str, Sequence[Made]],
) -> Count:
    """``claims``: the records of the activities that are a false positive of the rule, by activity."""
    found = Count()
    for hit in hits:
        if hit.group is None:
            for event in hit.events:
                one = known[event].activity
                behind = [one.id] if one.id in claims else []
                found.add(behind, one.thinned, one.id)
        else:
            label = ", ".join(f"{name}={value}" for name, value in hit.group)
            found.add(_behind(entry, hit, claims), 1, f"{label} at {hit.window}")
    return found


def _behind(entry: RuleEntry, hit: Hit, claims: Mapping[str, Sequence[Made]]) -> list[str]:
    """The activities that have records of a hit's group in its window."""
    assert hit.group is not None and hit.window is not None and entry.window is not None
    wanted = {value.lower() for _, value in hit.group if value}
    # An overlapping window is a step longer than the rule says, and a step is a twelfth.
    end = hit.window + timedelta(seconds=entry.window * 13 / 12)
    return [
        name
        for name, made in claims.items()
        if any(hit.window <= one.time < end and wanted <= one.texts for one in made)
    ]


# ---- figures ----------------------------------------------------------------------------------------------


def named_false_positives(rule: Rule) -> list[tuple[str, int]]:
    """The false positives that a rule names, by its name and their number from 1."""
    return [(rule.name, n) for n in range(1, len(rule.main.data.get("falsepositives") or ()) + 1)]


def faults(pack: Pack, month: Month) -> Iterator[str]:
    """What the month lacks of the rules' false positives, and what it has that no rule names."""
    named = {one for rule in pack.detections for one in named_false_positives(rule)}
    for rule, number in sorted(named - month.claimed.keys()):
        yield f"{rule}/{number}: no activity of reference/month is this false positive"
    for (rule, number), activities in sorted(month.claimed.items()):
        if (rule, number) not in named:
            yield f"{', '.join(one.id for one in activities)}: {rule} names no false positive {number}"


def unheard(month: Month, counted: Counted) -> Iterator[str]:
    """The false positives that do not occur: none of their activities raised an alert of the rule."""
    for (rule, number), activities in sorted(month.claimed.items()):
        found = counted.rules.get(rule, {}).get(SHIPPED, Count()).by_activity
        if not any(one.id in found for one in activities):
            names = ", ".join(one.id for one in activities)
            yield f"{rule}/{number}: does not occur: {names} raised no alert"


def unexplained(counted: Counted) -> Iterator[str]:
    """The alerts of shipped rules that no false positive of theirs explains."""
    for rule, kinds in sorted(counted.rules.items()):
        for label, number in kinds.get(SHIPPED, Count()).unclaimed.items():
            yield f"{rule}: {number:g} alerts of {label}, which no false positive of the rule explains"


def figures(pack: Pack, month: Month, counted: Counted) -> dict[str, Any]:
    """What figures.yml holds: alerts a week, to two digits behind the point."""
    rules = {}
    entries = {entry.name: entry for entry in rule_entries(pack.root / "dist")}
    for rule in sorted(pack.detections, key=lambda one: one.name):
        kinds = counted.rules[rule.name]
        shipped = kinds[SHIPPED]
        weekly = {kind: a_week(kinds.get(kind, shipped).alerts, month) for kind in (WITHOUT, SHIPPED, SITE)}
        claims = [(number, month.claimed[name, number]) for name, number in named_false_positives(rule)]
        of_each = {
            number: a_week(sum(shipped.by_activity.get(one.id, 0) for one in activities), month)
            for number, activities in claims
        }
        here = _platform_of(entries[rule.name]).id
        rules[rule.name] = {
            **({} if here == FIRST else {"platform": here}),
            "query": query_digest(pack, rule.name),
            "a_week": weekly,
            "falsepositives": of_each,
        }
    about = {
        "mailboxes": month.mailboxes,
        "weeks": month.weeks,
        "platform": FIRST,
        "records": counted.records,
        "stands_for": counted.stands_for,
        "data": month.digest,
    }
    return {"month": about, "rules": rules}


def a_week(alerts: float, month: Month) -> float:
    return round(alerts / month.weeks, 2)


def query_digest(pack: Pack, rule: str) -> str:
    """The SHA-256 of the query that was counted, as it stands in dist/."""
    [entry] = [one for one in rule_entries(pack.root / "dist") if one.name == rule]
    here = _platform_of(entry)
    own = [path for path in entry.artefacts if here.is_own_query(path, rule)]
    read = b"".join((pack.root / "dist" / path).read_bytes() for path in sorted(own))
    return hashlib.sha256(read).hexdigest()


def noisy(pack: Pack, stated: Mapping[str, Any]) -> Iterator[str]:
    """The rules of level high that raise more than `MOST_HIGH` a week after their filters."""
    for rule in pack.detections:
        weekly = stated["rules"][rule.name]["a_week"][SITE]
        if rule.level in ("high", "critical") and weekly > MOST_HIGH:
            yield f"{rule.name}: {weekly:g} alerts a week after its filters, {MOST_HIGH:g} are allowed"


def text(stated: Mapping[str, Any]) -> str:
    """figures.yml."""
    head = "# Alerts a week in the month of this folder. Written by scripts/bench.py month: do not edit.\n"
    return head + yaml.safe_dump(stated, sort_keys=False)


def measure() -> bool:
    """Count the month, print the table and write figures.yml; whether nothing is wrong with it."""
    pack = load_pack(ROOT)
    month = load_month(pack)
    wrong = list(faults(pack, month))
    if not wrong:
        counted = count(pack, month)
        stated = figures(pack, month, counted)
        (month.folder / FIGURES).write_text(text(stated), encoding="utf-8")
        print(f"{counted.records:,} records for {counted.stands_for:,}; alerts a week:")
        print("| rule | level | without its filters | as shipped | after the organisation's filters |")
        print("|---|---|---|---|---|")
        for rule in pack.detections:
            weekly = stated["rules"][rule.name]["a_week"]
            shown = " | ".join(f"{weekly[kind]:g}" for kind in (WITHOUT, SHIPPED, SITE))
            print(f"| {rule.name} | {rule.level} | {shown} |")
        wrong = [*unheard(month, counted), *unexplained(counted), *noisy(pack, stated)]
    for what in wrong:
        print(what, flush=True)
    return not wrong

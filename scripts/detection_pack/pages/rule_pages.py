"""docs/rules/: a page for each rule, made from the rule, its build and its events, and an index of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from detection_pack.build.dist import MANIFEST, Built
from detection_pack.build.folders import Folder
from detection_pack.languages.markdown import address, code, fence, link, paragraphs, strong, table, text
from detection_pack.model.attack import Technique, techniques_of
from detection_pack.model.case import THRESHOLD, Case, events_file, load_cases, log_source_of
from detection_pack.model.pack import Pack
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import BY_HAND, TIERS, Rule
from detection_pack.model.timespan import Timespan
from detection_pack.pages.month import MonthFigures, month_figures
from detection_pack.platforms.fields import PlatformField, detection_fields, platform_fields
from detection_pack.platforms.platform import ImportFiles, Setting, platform, platforms
from detection_pack.platforms.prerequisites import Prerequisite, of_rule

FOLDER = "docs/rules"
INDEX = "README.md"
#: What all rules need; no rule has a name in capitals.
NEEDS = "PREREQUISITES.md"
#: What the index says of itself; a folder whose index does not is somebody else's.
SIGNATURE = "<!-- Made by detection-pack build: do not edit. -->"

_TIER_ABOUT = {
    "core": "the branches of the reference query",
    "extended": "what the reference query misses",
    "hunting": "queries of lower confidence, to hunt with",
    "investigation": "queries with a value to fill in, for after an alert",
}
_COUNTED = {
    "value_count": "different values of {field}",
    "value_sum": "the sum of {field}",
    "value_avg": "the average of {field}",
    "value_median": "the median of {field}",
    "value_percentile": "a percentile of {field}",
}
_OPERATORS = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "less than", "eq": "exactly"}
#: The settings of an import that say when it runs.
_SCHEDULE = ("queryFrequency", "queryPeriod", "cron_schedule", "dispatch.earliest_time", "interval", "from")
#: Begins the end of a description: what the rule cannot find.
_UNSEEN = "What it does not see:"
_VERDICTS = {True: "match", False: "no match"}
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)


def folder(pack: Pack, built: Built) -> Folder:
    """The pages of the pack's own build, as a folder to be written or checked. Raises `PackError` for an
    events file that is no such file; a rule without one has a page that says so."""
    cases = {}
    for rule in pack.rules:
        path = events_file(pack.root, rule.name)
        cases[rule.name] = load_cases(path, log_source_of(rule, pack.sources)) if path.is_file() else []
    prefix = f"{FOLDER}/"
    files = {path.removeprefix(prefix): page for path, page in pages(pack, built, cases).items()}
    return Folder(pack.root / FOLDER, files, INDEX, SIGNATURE)


def pages(pack: Pack, built: Built, cases: Mapping[str, Sequence[Case]]) -> dict[str, bytes]:
    """Every page by its path from the pack's root. A rule that the build refused has none."""
    entries = {entry["name"]: entry for entry in json.loads(built.files[MANIFEST])["rules"]}
    rules = [rule for rule in pack.rules if rule.name in entries]
    imports = [here.imports(built.files) for here in platforms()]
    month = month_figures(pack.root)
    made = {f"{FOLDER}/{INDEX}": index(rules, cases).encode()}
    made[f"{FOLDER}/{NEEDS}"] = all_needs(rules, pack.pipelines, entries).encode()
    for rule in rules:
        page = _page(
            rule, pack.pipelines, built.files, entries[rule.name], imports, cases.get(rule.name, ()), month
        )
        made[f"{FOLDER}/{rule.name}.md"] = page.encode()
    return made


def index(rules: Sequence[Rule], cases: Mapping[str, Sequence[Case]]) -> str:
    """All rules, by tier."""
    parts = ["# Rules", SIGNATURE]
    for tier in (*TIERS, "other"):
        listed = [rule for rule in rules if rule.tier == tier]
        if not listed:
            continue
        about = _TIER_ABOUT.get(tier)
        parts.append(f"## {tier.capitalize()}" + (f": {about}" if about else ""))
        header = ("rule", "level", "technique", "what", "data", "tests")
        parts.append(table(header, (_index_row(rule, cases.get(rule.name, ())) for rule in listed)))
    return "\n\n".join(parts) + "\n"


def _index_row(rule: Rule, cases: Sequence[Case]) -> tuple[str, ...]:
    described = str(rule.main.data.get("description") or "").strip()
    sentence = _SENTENCE.match(described)
    about = text(sentence[0] if sentence else described)
    return (
        link(code(rule.name), f"{rule.name}.md"),
        text(rule.level),
        ", ".join(_technique(one) for one in techniques_of(rule)),
        strong(rule.title) + (f": {about}" if about else ""),
        ", ".join(map(code, _listed(rule, "required_tables"))) or text(_source(rule)),
        str(len(cases)),
    )


def _page(
    rule: Rule,
    pipelines: Mapping[str, Pipeline],
    files: Mapping[str, bytes],
    entry: Mapping[str, Any],
    imports: Sequence[ImportFiles],
    cases: Sequence[Case],
    month: MonthFigures,
) -> str:
    absent: Mapping[str, Sequence[str]] = entry.get("absent", {})
    told, _, unseen = str(rule.main.data.get("description") or "").partition(_UNSEEN)
    unseen = unseen.strip()
    parts = [
        f"# {text(rule.title)}",
        SIGNATURE,
        _summary(rule),
        "## What it finds, and why it matters",
        *paragraphs(told or "The rule does not say."),
        *_correlation(rule),
        *(["## What it does not see", *paragraphs(f"{unseen[:1].upper()}{unseen[1:]}")] if unseen else []),
        *_seen_today(rule),
        "## Data",
        _data(rule),
        *_needs(rule, pipelines, absent),
        "## Fields",
        *_fields(rule, pipelines, absent),
        "## Queries",
        *_queries(rule, files, absent),
        "## Parameters",
        *_parameters(rule, imports),
        *month.section(rule),
        *_guide(rule),
        "## False positives",
        _bullets(_false_positives(rule, month)) or "The rule names none.",
        "## Tests",
        *_tests(rule, cases),
        "## Files",
        *_files(rule, files),
        "## References",
        _bullets(map(address, _listed(rule, "references"))) or "The rule names none.",
    ]
    return "\n\n".join(parts) + "\n"


def _summary(rule: Rule) -> str:
    data = rule.main.data
    about = [
        ("rule", link(code(rule.name), f"../../sigma/{rule.tier}/{rule.name}.yml")),
        ("id", code(rule.id)),
        ("tier", text(rule.tier)),
        ("level", text(rule.level)),
        ("confidence", text(data.get("confidence") or "not stated")),
        ("status", text(data.get("status") or "not stated")),
        ("ATT&CK", ", ".join(_technique(one, named=True) for one in techniques_of(rule)) or "none"),
        ("author", text(data.get("author") or "not stated")),
    ]
    return table(("", ""), about)


def _technique(one: Technique, named: bool = False) -> str:
    return link(f"{one.id} {text(one.name)}" if named else one.id, one.reference)


def _correlation(rule: Rule) -> Iterator[str]:
    """What a correlation counts, and the rules that it counts by."""
    if (correlation := rule.correlation) is None:
        return
    field = code(correlation.value_field) if correlation.value_field else ""
    counted = _COUNTED.get(correlation.type, "events").format(field=field)
    operator = _OPERATORS.get(correlation.operator, correlation.operator)
    groups = ", ".join(map(code, correlation.group_by)) or "nothing: all events together"
    alerts, shows = ("shows those with", "is shown") if rule.tier in BY_HAND else ("alerts on", "alerts")
    kind, further = "clock windows", ""
    if (windows := correlation.overlapping) is not None:
        step = code(Timespan(windows.step).text())
        kind = "overlapping windows"
        further = (
            f" A window starts every {step} and is that much longer, so that no burst is cut in two; of "
            f"windows one after the other the first {shows}, once."
        )
    yield (
        f"It counts {counted} in {kind} of {code(correlation.timespan)}, grouped by {groups}, "
        f"and {alerts} {operator} {correlation.threshold:g}.{further}"
    )
    for document in rule.documents:
        if document is not rule.main:
            title = strong(f"Counted: {document.data.get('title', 'the base rule')}.")
            yield " ".join([title, *paragraphs(document.data.get("description") or "")])


def _seen_today(rule: Rule) -> Iterator[str]:
    """What becomes of each value of the rule today: the custom key ``seen_today``."""
    stated = rule.main.data.get("seen_today")
    if not stated:
        return
    yield "## What it sees today"
    yield f"{text(stated['in'])}, as read on {text(stated['read'])}:"
    values: Mapping[str, str] = stated["values"]
    yield table(("value", "today"), ((code(value), text(said)) for value, said in values.items()))


def _data(rule: Rule) -> str:
    lines = [f"Log source: {text(_source(rule))}."]
    if tables := _listed(rule, "required_tables"):
        lines.append(f"Tables in Microsoft Sentinel: {', '.join(map(code, tables))}.")
    lines += [text(source) for source in _listed(rule, "data_sources")]
    return _bullets(lines)


def _needs(
    rule: Rule, pipelines: Mapping[str, Pipeline], absent: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """What must be there on each platform, and how one sees that it is not."""
    rows, queries = [], []
    for here in platforms():
        needed = () if here.id in absent else of_rule(rule, pipelines[here.id])
        for one in needed:
            rows.append((here.title, code(one.place), text(one.source), text(one.setting), text(one.licence)))
            queries += [f"{here.title}, {code(one.place)}:", fence(one.silent, here.fence)]
    if rows:
        yield "What must be there; where a platform has several places, one that delivers is enough:"
        yield table(("platform", "place", "filled by", "setting", "licence"), rows)
        yield "A source is silent where its query has no row, over the last day:"
        yield from queries


def all_needs(
    rules: Sequence[Rule], pipelines: Mapping[str, Pipeline], entries: Mapping[str, Mapping[str, Any]]
) -> str:
    """What must be there for all rules, a platform after the other."""
    parts = ["# What must be there", SIGNATURE]
    parts.append("A source is silent where its query has no row, over the last day.")
    for here in platforms():
        of_place: dict[Prerequisite, list[Rule]] = {}
        for rule in rules:
            if here.id not in entries[rule.name].get("absent", {}):
                for one in of_rule(rule, pipelines[here.id]):
                    of_place.setdefault(one, []).append(rule)
        if of_place:
            parts.append(f"## {here.title}")
        for one, readers in of_place.items():
            parts.append(f"### {code(one.place)}: {text(one.source)}")
            names = ", ".join(link(code(rule.name), f"{rule.name}.md") for rule in readers)
            about = (("setting", text(one.setting)), ("licence", text(one.licence)), ("rules", names))
            parts += [table(("", ""), about), fence(one.silent, here.fence)]
    return "\n\n".join(parts) + "\n"


def _source(rule: Rule) -> str:
    return ", ".join(f"{key} {value}" for key, value in rule.logsource.items())


def _fields(
    rule: Rule, pipelines: Mapping[str, Pipeline], absent: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    read, view = detection_fields(rule), rule.alert.fields
    every = tuple(dict.fromkeys((*read, *view)))
    shown_on = [here for here in platforms() if here.id not in absent]
    named = {here.id: platform_fields(rule, pipelines[here.id], every) for here in shown_on}
    rows = [
        (
            code(field),
            " and ".join(use for use, fields in (("detection", read), ("alert", view)) if field in fields),
            *(_named(named[here.id][field]) for here in shown_on),
        )
        for field in every
    ]
    yield table(("field", "for", *(here.title for here in shown_on)), rows)
    yield "Each platform's name stands in its pipeline; a query may read further fields, to make these whole."
    yield f"What {'a result' if rule.tier in BY_HAND else 'an alert'} shows, on every platform:"
    alert = rule.alert
    detail = "".join(code(part) if is_field else _within(part) for is_field, part in alert.detail_parts())
    held = {"DetectionType": text(alert.type), "DetectionDetail": detail}
    holds = {column: alert.field_of(column) for column in alert.FIELDS}
    held |= {column: code(field) if field else "empty" for column, field in holds.items()}
    shown = [(f"`{column}`", held[column]) for column in alert.COLUMNS]
    yield table(("column", "holds"), shown)


def _within(part: str) -> str:
    """A piece of a line as `text`, with the blanks that part it from its neighbours."""
    return " " * part[:1].isspace() + text(part) + " " * (part[-1:].isspace() and bool(part.strip()))


def _named(fields: Sequence[PlatformField]) -> str:
    return ", ".join(
        code(field.name) + (f" (a file name: {code(field.file_name)})" if field.file_name else "")
        for field in fields
    )


def _queries(rule: Rule, files: Mapping[str, bytes], absent: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for here in platforms():
        yield f"### {here.title}"
        if here.id in absent:
            yield "There is no rule for it here:"
            yield _bullets(map(text, absent[here.id]))
        for form in here.forms:
            path = f"{here.id}/queries/{rule.name}{form.ending}"
            if path in files and form.exact:
                yield f"{text(form.language)}, {_dist(path)}:"
                yield fence(files[path].decode("utf-8"), form.fence)


def _parameters(rule: Rule, imports: Sequence[ImportFiles]) -> Iterator[str]:
    own = [s for one in imports for s in one.parameters(rule.name)]
    # A parameter that rules share belongs to none of them; the guide of the platform explains it.
    shown = [s for s in own if rule.name in s.of or s.key.startswith(f"{rule.name}_")]
    timed = [s for one in imports for s in one.schedules(rule.name) if s.key in _SCHEDULE]
    yield "What a site tunes, as shipped:"
    yield table(("platform", "where", "parameter", "as shipped"), map(_setting_row, [*shown, *timed]))


def _setting_row(setting: Setting) -> tuple[str, ...]:
    return platform(setting.platform).title, setting.where, code(setting.key), code(setting.value)


def _false_positives(rule: Rule, month: MonthFigures) -> Iterator[str]:
    for number, said in enumerate(_listed(rule, "falsepositives"), start=1):
        yield text(said) + month.of_false_positive(rule, number)


def _guide(rule: Rule) -> Iterator[str]:
    """Where to go on after an alert."""
    if (guide := rule.guide) is None:
        return
    yield "## After an alert"
    asked = link("What to ask", f"../investigation.md#{guide.kind.id}")
    done = link("what to do", f"../playbook.md#{guide.kind.id}")
    steps = [
        f"{number}. {step.heading}: {link(text(step.title), f'../playbook.md#{step.id}')}"
        for number, step in enumerate(guide.kind.steps, start=1)
    ]
    yield f"{asked}, in which order and by which queries; and {done}:"
    yield "\n".join(steps)


def _tests(rule: Rule, cases: Sequence[Case]) -> Iterator[str]:
    if not cases:
        yield "None yet: the rule has no events file."
        return
    events = link(f"`tests/events/{rule.name}.yml`", f"../../tests/events/{rule.name}.yml")
    counts = [sum(case.matches is side for case in cases) for side in (True, False)]
    yield f"{counts[0]} cases must match and {counts[1]} must not, on every platform ({events})."
    for side, heading in ((True, "### Must match"), (False, "### Must not match")):
        yield heading
        rows = [
            (text(case.title), str(len(case.events)), _exceptions(case))
            for case in cases
            if case.matches is side
        ]
        yield table(("case", "records", "exceptions"), rows) if rows else "None."


def _exceptions(case: Case) -> str:
    return "; ".join(
        f"{_judged(name)}: {_VERDICTS[matches]}, because {text(why)}"
        for name, (matches, why) in case.exceptions.items()
    )


def _judged(name: str) -> str:
    return "Kibana's threshold rule" if name == THRESHOLD else platform(name).title


def _files(rule: Rule, files: Mapping[str, bytes]) -> Iterator[str]:
    listed = json.loads(files[MANIFEST])
    own = [a["path"] for entry in listed["rules"] if entry["name"] == rule.name for a in entry["artefacts"]]
    yield _bullets(map(_dist, own))
    yield "Files of several rules:"
    # The pipelines are what rules are converted with; nobody imports them.
    paths = [artefact["path"] for artefact in listed["artefacts"]]
    yield _bullets(_dist(path) for path in paths if not path.startswith("pipelines/"))
    guides = (link(here.title, f"../import/{here.id}.md") for here in platforms())
    yield f"How to import: {', '.join(guides)}."


def _dist(path: str) -> str:
    return link(f"`dist/{path}`", f"../../dist/{path}")


def _listed(rule: Rule, key: str) -> list[Any]:
    value = rule.main.data.get(key)
    return value if isinstance(value, list) else [] if value is None else [value]


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)

"""The pack: rules, pipelines and events, loaded and checked, as frozen dataclasses.

pySigma's objects are made here (`Rule.sigma`, `Pipeline.processing`) and used by the backends of the
platforms; nothing else sees them.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
import tomllib
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule

from detection_pack import pipeline_document
from detection_pack.blanks import MARKER, is_blank
from detection_pack.documents import Document, load_documents, read_text
from detection_pack.findings import Finding, PackError
from detection_pack.limits import MAX_COUNT, MAX_RULE_BYTES, check_limits
from detection_pack.pipeline_shapes import check_shapes
from detection_pack.refused_forms import old_forms, refused_values, translated
from detection_pack.source_mapping import SourceMapping, source_mapping
from detection_pack.users import open_users

PLATFORMS = ("sentinel", "splunk", "elastic")
TIERS = ("core", "extended", "hunting")

#: A rule's name becomes a file name, a macro name and a KQL identifier.
NAME = re.compile(r"[a-z][a-z0-9_]{2,63}")
#: Windows opens a device by these names, whatever ending they have ("Naming Files, Paths, and Namespaces");
#: [default] of a Splunk .conf file holds the settings of all stanzas.
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]|default")
#: A timespan as Sigma writes it, in ASCII: pySigma takes whatever Python's ``int`` takes.
_TIMESPAN = re.compile(r"[1-9][0-9]{0,5}[smhdwMy]")
LONGEST = 64

DEFAULT_LOOKBACK = "24h"

#: The ids of the findings that this module makes besides what it refuses to load.
ALERT, KNOB = "alert-view", "knob"


@dataclass(frozen=True)
class AlertView:
    """What an analyst sees of a hit: the custom key ``alert:`` of a rule, in canonical field names.

    ``detail`` is text with ``{Field}`` placeholders; a correlation also has ``{count}`` and ``{window}``.
    A column that the rule leaves out is the empty string in the result.
    """

    type: str
    detail: str
    user: str | None = None
    source: str | None = None
    agent: str | None = None
    extra: str | None = None

    #: The names of the result columns after the time, in the order of the reference query.
    COLUMNS = ("UserId", "ClientIP", "ClientAgent", "DetectionType", "DetectionDetail", "ExtraInfo")
    _PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

    @property
    def fields(self) -> tuple[str, ...]:
        """Every canonical field that the view reads, once each, in order of first use."""
        named = [f for f in (self.user, self.source, self.agent, self.extra) if f]
        named += [f for f in self._PLACEHOLDER.findall(self.detail) if f not in ("count", "window")]
        return tuple(dict.fromkeys(named))

    def detail_parts(self) -> tuple[tuple[bool, str], ...]:
        """``detail`` cut at its placeholders: ``(is_placeholder, text or field)``, empty text left out."""
        parts = self._PLACEHOLDER.split(self.detail)
        return tuple((i % 2 == 1, part) for i, part in enumerate(parts) if part or i % 2)


@dataclass(frozen=True)
class Correlation:
    """The facts of a Sigma correlation that other parts need. ``window`` is in seconds."""

    type: str
    group_by: tuple[str, ...]
    window: int
    timespan: str
    operator: str
    threshold: int | float
    value_field: str | None
    base_rules: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """One Sigma file: a rule, or a correlation with the rules that it correlates.

    ``main`` is the document that speaks for the file (the correlation if there is one).
    """

    name: str
    path: Path
    tier: str
    documents: tuple[Document, ...]
    main: Document

    @property
    def title(self) -> str:
        return str(self.main.data.get("title", self.name))

    @property
    def id(self) -> str:
        """The rule's UUID in its usual form (pySigma takes any that Python's ``UUID`` takes), or nothing."""
        stated = str(self.main.data.get("id", ""))
        try:
            return str(uuid.UUID(stated))
        except ValueError:
            return " ".join("".join(c if c.isprintable() else " " for c in stated).split())

    @property
    def level(self) -> str:
        return str(self.main.data.get("level", "medium"))

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(map(str, self.main.data.get("tags") or ()))

    @property
    def techniques(self) -> tuple[str, ...]:
        """ATT&CK technique ids of the tags, in upper case, in the rule's order."""
        found = (re.fullmatch(r"attack\.(t[0-9]{4}(?:\.[0-9]{3})?)", tag) for tag in self.tags)
        return tuple(match[1].upper() for match in found if match)

    @property
    def lookback(self) -> str:
        """How far back one run looks: the custom key ``lookback``, a Kusto timespan such as ``24h``."""
        return str(self.main.data.get("lookback", DEFAULT_LOOKBACK))

    @property
    def logsource(self) -> Mapping[str, str]:
        """The log source of the detection (a correlation's is that of the first rule it correlates)."""
        for document in self.documents:
            if isinstance(document.data.get("logsource"), dict):
                return {k: str(v) for k, v in document.data["logsource"].items()}
        return {}

    @cached_property
    def alert(self) -> AlertView:
        """The rule's ``alert:`` view; somebody else's rule without one shows its title."""
        stated = self.main.data.get("alert")
        if stated is None:
            return AlertView(type=self.title, detail=self.title.replace("{", "(").replace("}", ")"))
        named = {k: str(v) for k, v in stated.items() if k in ("type", "detail") or v not in (None, "")}
        return AlertView(**named)

    @cached_property
    def correlation(self) -> Correlation | None:
        """The correlation of this file, or None for a plain rule."""
        found = next((r for r in self._parsed.rules if isinstance(r, SigmaCorrelationRule)), None)
        if found is None:
            return None
        condition = self.main.data["correlation"].get("condition")
        condition = condition if isinstance(condition, dict) else {}
        operator = next((op for op in ("gte", "gt", "lte", "lt", "eq", "neq") if op in condition), "gte")
        return Correlation(
            type=found.type.name.lower(),
            group_by=tuple(found.group_by or ()),
            window=found.timespan.seconds,
            timespan=found.timespan.spec,
            operator=operator,
            threshold=condition.get(operator, len(found.rules or ())),
            value_field=condition.get("field") if isinstance(condition.get("field"), str) else None,
            base_rules=tuple(ref.reference for ref in found.rules or ()),
        )

    @cached_property
    def _parsed(self) -> SigmaCollection:
        try:
            with warnings.catch_warnings():
                # Python warns of an expression that it reads in another way than it may seem; so may Splunk.
                warnings.simplefilter("error", FutureWarning)
                collection = SigmaCollection.from_dicts([copy.deepcopy(d.data) for d in self.documents])
            for rule in collection.rules:
                if isinstance(rule, SigmaRule):
                    open_users(rule)
            return collection
        except SigmaError as error:
            raise self.refused(error) from error
        except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
            raise self.refused(SigmaError(f"not a Sigma rule: {error}")) from error

    @cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps(self._parsed, pickle.HIGHEST_PROTOCOL)

    def sigma(self) -> SigmaCollection:
        """A fresh pySigma collection of this file; a pipeline changes the rules that it is applied to.

        It is copied by way of its own pickle, which takes a seventh of the time of a deep copy.
        """
        copied: SigmaCollection = pickle.loads(self._pickled)
        return copied

    def line_of(self, text: str) -> int:
        """The line of the first place in the file that says ``text`` as a key or a value."""
        for document in self.documents:
            if (line := document.line_of(text)) != document.line():
                return line
        return self.main.line()

    def refused(self, error: Exception, subject: str | None = None) -> PackError:
        """A `PackError` for this rule from pySigma's or a backend's complaint about ``subject``."""
        what = re.sub(r" in (?:/|[A-Za-z]:\\).*$", "", str(error).split("\n")[0]) or type(error).__name__
        what = translated(what)
        line = self.line_of(subject) if subject else self._line_named_in(what)
        what, _, todo = what.partition("; ")
        return PackError.at(self.path, line, what, todo or "change the rule; see CONTRIBUTING.md")

    def _line_named_in(self, message: str) -> int:
        for quoted in re.findall(r"['\"]([^'\"]{2,})['\"]", message):
            if (line := self.line_of(quoted)) != self.main.line():
                return line
        return self.main.line()


@dataclass(frozen=True)
class FieldTraits:
    """What a pipeline knows of a canonical field: whether it maps it, whether it maps its values one by one,
    and whether a plain ``|contains`` on it finds whole terms."""

    known: bool
    enumerated: bool
    whole_term: bool


@dataclass(frozen=True)
class Pipeline:
    """A plain pySigma processing pipeline of one platform."""

    platform: str
    path: Path
    document: Document

    def processing(self) -> ProcessingPipeline:
        """The pySigma pipeline. It empties its state before each rule, so one serves all rules in turn.

        Its items write into the pipeline that was last made of them. A backend of pySigma's own makes another
        one of those it is given; then they are linked anew here.
        """
        linked = self._linked
        if any(item._pipeline is not linked for item in linked.items[:1]):
            linked = self.__dict__["_linked"] = ProcessingPipeline() + self._parsed
        return linked

    @cached_property
    def _linked(self) -> ProcessingPipeline:
        return ProcessingPipeline() + self._parsed

    @cached_property
    def _parsed(self) -> ProcessingPipeline:
        try:
            return ProcessingPipeline.from_dict(copy.deepcopy(self.document.data))
        except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
            what = str(error).split("\n")[0]
            todo = "see pySigma's documentation of pipelines"
            raise PackError.at(self.path, 1, what, todo, pipeline_document.PIPELINE) from error

    def known_fields(self, rule: SigmaRule | SigmaCorrelationRule) -> frozenset[str]:
        """The canonical fields that the pipeline maps for the log source of this rule."""
        return self.mapping_of(rule).fields

    def enumerations(self, rule: SigmaRule | SigmaCorrelationRule) -> Mapping[str, frozenset[str]]:
        """``{canonical field: values}`` of every field whose values the pipeline maps one by one."""
        return self.mapping_of(rule).enumerations

    def mapping_of(self, rule: SigmaRule | SigmaCorrelationRule) -> SourceMapping:
        """What the pipeline says of the log source of this rule."""
        source = rule.logsource if isinstance(rule, SigmaRule) else None
        found = self._mapping_by_source.get(source)
        if found is None:
            items = [item for item in self._parsed.items if self._log_source_matches(item, rule)]
            found = self._mapping_by_source[source] = source_mapping(items)
        return found

    @cached_property
    def _mapping_by_source(self) -> dict[Any, SourceMapping]:
        return {}

    def map_field(self, rule: Rule, field: str) -> str:
        """The platform's name for a canonical field, in the context of the rule that has the detection."""
        return self._mapped(rule, field)[0]

    def traits(self, rule: Rule, field: str) -> FieldTraits:
        """What the pipeline knows of a canonical field, in the context of the rule that has the detection."""
        plain = next(r for r in rule.sigma().rules if isinstance(r, SigmaRule))
        name, state = self._mapped(rule, field)
        return FieldTraits(
            known=field in self.known_fields(plain),
            enumerated=field in self.enumerations(plain),
            whole_term=name in state.get("whole_term_fields", ()),
        )

    def _mapped(self, rule: Rule, field: str) -> tuple[str, Mapping[str, Any]]:
        """A field's name here, and the state that the pipeline reaches on the rule."""
        plain = next(r for r in rule.sigma().rules if isinstance(r, SigmaRule))
        plain.fields = [field]
        processing = self.processing()
        processing.apply(plain)
        return str(plain.fields[0]) if plain.fields else field, processing.state

    @staticmethod
    def _log_source_matches(item: Any, rule: SigmaRule | SigmaCorrelationRule) -> bool:
        conditions = item.rule_conditions
        listed = conditions.values() if isinstance(conditions, dict) else conditions
        sources = [c for c in listed if type(c).__name__ == "LogsourceCondition"]
        return not sources or any(c.match(rule) for c in sources)


@dataclass(frozen=True)
class Pack:
    """Everything that a build needs. ``root`` is the folder that holds sigma/, pipelines/ and tests/.

    ``pipelines`` are those of the platforms and whatever else stands in pipelines/, by file stem.
    """

    root: Path
    version: str
    rules: tuple[Rule, ...]
    pipelines: Mapping[str, Pipeline] = field(repr=False)

    def rule(self, name: str) -> Rule:
        return next(rule for rule in self.rules if rule.name == name)


def load_pack(root: Path, rules_dir: Path | None = None, findings: list[Finding] | None = None) -> Pack:
    """Load ``root`` (or, for its pipelines, ``root`` and the rules of ``rules_dir``).

    With ``findings`` a faulty rule is reported there and left out; without, every fault is raised
    together as one `PackError`.
    """
    collected: list[Finding] = [] if findings is None else findings
    rules: list[Rule] = []
    seen: dict[str, Path] = {}
    for path, tier in rule_files(root, rules_dir):
        try:
            rule = load_rule(path, tier, named_by_stem=rules_dir is not None)
            if rule.name in seen:
                raise name_taken(path, rule.main.line("name"), rule.name, seen[rule.name])
            seen[rule.name] = path
            rules.append(rule)
        except PackError as error:
            collected.extend(error.findings)
    try:
        pipelines = load_pipelines(root)
    except PackError as error:
        raise PackError([*collected, *error.findings]) from error
    if not rules and not collected:
        raise no_rule(rules_dir or root / "sigma")
    if collected and findings is None:
        raise PackError(collected)
    return Pack(root, pack_version(root), tuple(sorted(rules, key=lambda r: r.name)), pipelines)


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


def rule_files(root: Path, rules_dir: Path | None = None) -> list[tuple[Path, str]]:
    """``(path, tier)`` of every rule file, sorted by path."""
    if rules_dir is not None:
        if not rules_dir.is_dir():
            raise PackError.at(rules_dir, 1, "is not a folder", "name the folder that holds the rules")
        found = [p for p in rules_dir.rglob("*") if p.suffix in (".yml", ".yaml") and not _is_folder(p)]
        return [(path, "other") for path in sorted(found)]
    return [(path, tier) for tier in TIERS for path in sorted((root / "sigma" / tier).glob("*.yml"))]


def _is_folder(path: Path) -> bool:
    """A folder is walked; a link to one is not, and is refused as a rule like any other link."""
    return path.is_dir() and not path.is_symlink()


def load_rule(path: Path, tier: str, named_by_stem: bool = False) -> Rule:
    """One Sigma file, parsed by pySigma. Raises `PackError`.

    In the pack the main document's ``name`` is the file stem; in a folder of anybody's rules the file
    stem, made fit for a file name, is the name.
    """
    documents = load_documents(path, read_text(path, MAX_RULE_BYTES))
    if not documents:
        raise PackError.at(path, 1, "holds no Sigma rule", "write a rule or remove the file")
    for document in documents:
        if not isinstance(document.data, dict):
            raise PackError.at(path, document.line(), "is not a mapping", "write a Sigma rule")
        old = [Finding(str(path), document.line(*p), what, todo) for p, what, todo in old_forms(document)]
        if old:
            raise PackError(old)
        if "correlation" not in document.data and not isinstance(document.data.get("detection"), dict):
            what = "is a Sigma filter" if "filter" in document.data else 'has no "detection:"'
            raise PackError.at(path, document.line(), what, "write a rule or a correlation with its rules")
    correlations = [d for d in documents if "correlation" in d.data]
    if len(correlations) > 1 or (not correlations and len(documents) > 1):
        raise PackError.at(
            path,
            documents[1].line(),
            "holds more than one rule",
            "write one rule a file; only a correlation stands with the rules that it correlates",
        )
    main = correlations[0] if correlations else documents[0]
    stem = name_of_file(path) if named_by_stem else path.stem
    if not named_by_stem and main.data.get("name") != stem:
        raise PackError.at(
            path,
            main.line("name"),
            f'the name "{main.data.get("name")}" is not the file\'s',
            f'write "name: {stem}" or rename the file',
        )
    if not NAME.fullmatch(stem) or _RESERVED.fullmatch(stem):
        raise PackError.at(
            path,
            main.line("name"),
            f'"{stem}" cannot name a rule',
            "use 3 to 64 of a-z, 0-9 and _, a letter first, and no reserved name",
        )
    check_limits(tuple(documents))
    rule = Rule(stem, path, tier, tuple(documents), main)
    if tier in TIERS:
        _check_blanks(rule)
    if faults := list(_alert_faults(rule)):
        raise PackError(faults)
    refused = [
        Finding(str(path), rule.line_of(field), f'field "{field}": {what}' if field else what, todo)
        for sigma_rule in rule.sigma().rules
        if isinstance(sigma_rule, SigmaRule)
        for field, what, todo in refused_values(sigma_rule)
    ]
    if refused:
        raise PackError(refused)
    if faults := [*_list_faults(rule), *_knob_faults(rule)]:
        raise PackError(faults)
    return rule


def name_of_file(path: Path) -> str:
    """The stem of anybody's file, made fit to name a rule."""
    stem = re.sub(r"[^a-z0-9_]+", "_", path.stem.lower()).strip("_") or "rule"
    stem = stem if stem[0].isalpha() else f"rule_{stem}"
    stem = f"rule_{stem}" if len(stem) < 3 or _RESERVED.fullmatch(stem) else stem
    if len(stem) > LONGEST:
        # Two long names may begin alike.
        stem = f"{stem[: LONGEST - 9]}_{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return stem


def _check_blanks(rule: Rule) -> None:
    """What ``detection-pack new`` marked and nobody has filled in yet, a finding each."""
    scalars = (scalar for document in rule.documents for scalar in document.scalars())
    if not any(is_blank(value) or any(map(is_blank, keys)) for keys, value in scalars):
        return
    findings = []
    for number, line in enumerate(read_text(rule.path).split("\n"), start=1):
        if MARKER in line and not line.lstrip().startswith("#"):
            about = line.partition(MARKER)[2].strip(" :\"'},]")
            what = f"is a blank: {about}" if about else "is a blank"
            findings.append(Finding(str(rule.path), number, what, "fill it in"))
    raise PackError(findings)


def rule_faults(rule: Rule) -> list[Finding]:
    """Every fault of the pack's own keys: the alert view, the look-back, a correlation's knobs."""
    return [*_alert_faults(rule), *_list_faults(rule), *_knob_faults(rule)]


def _alert_faults(rule: Rule) -> Iterator[Finding]:
    stated = rule.main.data.get("alert")
    if stated is None and rule.tier == "other":
        return
    allowed = ("type", "detail", "user", "source", "agent", "extra")
    line, path = rule.main.line("alert"), str(rule.path)
    if not isinstance(stated, dict):
        todo = 'add "alert:" with type, detail, user and source'
        yield Finding(path, line, 'has no "alert:" view', todo, ALERT)
        return
    for key in stated:
        if key not in allowed:
            at = rule.main.line("alert", key)
            yield Finding(path, at, f'"alert:" has no "{key}"', f"use {', '.join(allowed)}", ALERT)
    placeholders = set(re.findall(r"\{([^{}]*)\}", str(stated.get("detail"))))
    if "correlation" not in rule.main.data and placeholders & {"count", "window"}:
        what = "names {count} or {window}, which only a correlation has"
        yield Finding(path, rule.main.line("alert", "detail"), what, "name a field", ALERT)
    for key in ("type", "detail"):
        if not isinstance(stated.get(key), str):
            at = rule.main.line("alert", key)
            yield Finding(path, at, f'"alert:" has no "{key}"', f'add "{key}:" with text', ALERT)


#: Keys that are read as lists of text: ours, of which pySigma knows nothing, and those inside a correlation,
#: whose members it does not look at.
_LISTS = (
    ("required_tables",),
    ("data_sources",),
    ("correlation", "rules"),
    ("correlation", "group-by"),
    ("correlation", "condition", "field"),
)


def _list_faults(rule: Rule) -> Iterator[Finding]:
    for keys in _LISTS:
        value: Any = rule.main.data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        listed = value if isinstance(value, list) else [] if value is None else [value]
        one = keys[0] == "correlation"
        if not all(isinstance(text, str) for text in listed) or (isinstance(value, str) and not one):
            what = f'"{keys[-1]}:" is not a list of text'
            yield Finding(str(rule.path), rule.main.line(*keys), what, "write one text a line", KNOB)


def _knob_faults(rule: Rule) -> Iterator[Finding]:
    """A look-back and a threshold are written into queries as they stand: nothing else may be there."""
    main, path = rule.main, str(rule.path)
    if not any(c.isprintable() and not c.isspace() for c in rule.title):
        yield Finding(path, main.line("title"), "has an empty title", "say what the rule finds", KNOB)
    if not isinstance(main.data.get("whole_terms", True), bool):
        what = f'says "whole_terms: {main.data["whole_terms"]}"'
        yield Finding(path, main.line("whole_terms"), what, "write true or false", KNOB)
    usable = re.fullmatch(r"[1-9][0-9]{0,3}[dhm]", rule.lookback)
    if not usable:
        what, todo = f'"{rule.lookback}" is not a look-back', 'write a number and d, h or m, such as "24h"'
        yield Finding(path, main.line("lookback"), what, todo, KNOB)
    try:
        correlation = rule.correlation
    except PackError:
        return  # the Sigma fault is reported as one
    if correlation is None:
        return
    if type(correlation.threshold) is not int or not 0 <= correlation.threshold <= MAX_COUNT:
        line = main.line("correlation", "condition", correlation.operator)
        todo = f"write a whole number up to {MAX_COUNT:,}"
        yield Finding(path, line, f'"{correlation.threshold}" is not a count', todo, KNOB)
    if not _TIMESPAN.fullmatch(correlation.timespan):
        line = main.line("correlation", "timespan")
        what, todo = f'"{correlation.timespan}" is not a timespan', 'write a number and a unit, such as "1h"'
        yield Finding(path, line, what, todo, KNOB)
    elif usable and correlation.window > _seconds(rule.lookback):
        line = main.line("correlation", "timespan")
        what = f"the window {correlation.timespan} is longer than the look-back {rule.lookback}"
        yield Finding(path, line, what, 'shorten it, or state a longer "lookback:"', KNOB)


def _seconds(timespan: str) -> int:
    return int(timespan[:-1]) * {"m": 60, "h": 3600, "d": 86400}[timespan[-1]]


def load_pipelines(root: Path) -> dict[str, Pipeline]:
    """Every pipeline of ``root``: those of the platforms, and of what a platform serves besides.

    All that is wrong with any of them is raised in one `PackError`.
    """
    folder = root / "pipelines"
    found: dict[str, Pipeline] = {}
    findings: list[Finding] = []
    for name in sorted({*PLATFORMS, *(path.stem for path in folder.glob("*.yml"))}):
        try:
            found[name] = load_pipeline(name, folder / f"{name}.yml")
        except PackError as error:
            findings += error.findings
    if findings:
        raise PackError(findings)
    return found


def load_pipeline(platform: str, path: Path) -> Pipeline:
    """The pipeline file of a platform. Raises `PackError` with every fault.

    The document is judged before pySigma reads it: reading a hostile one must not reach for anything.
    """
    return _pipeline(platform, path, read_text(path))


@lru_cache(maxsize=32)
def _pipeline(platform: str, path: Path, text: str) -> Pipeline:
    documents = load_documents(path, text)
    if len(documents) != 1:
        what, todo = "is not one pipeline", "write one YAML mapping with transformations"
        raise PackError.at(path, 1, what, todo, pipeline_document.PIPELINE)
    if faults := pipeline_document.faults(documents[0]):
        raise PackError(faults)
    pipeline = Pipeline(platform, path, documents[0])
    pipeline.processing()
    check_shapes(documents[0])
    return pipeline

"""A rule's file, read and checked: what may be loaded at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sigma.rule import SigmaRule

from detection_pack.model.documents import load_documents, read_text
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.limits import MAX_COUNT, MAX_RULE_BYTES, check_limits
from detection_pack.model.placeholders import MARKER, is_blank, said_of
from detection_pack.model.refused_forms import old_forms, refused_values
from detection_pack.model.rule import TIERS, Rule
from detection_pack.model.timespan import Timespan

#: A rule's name becomes a file name, a macro name and a KQL identifier.
NAME = re.compile(r"[a-z][a-z0-9_]{2,63}")
#: Windows opens a device by these names, whatever ending they have ("Naming Files, Paths, and Namespaces");
#: [default] of a Splunk .conf file holds the settings of all stanzas.
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]|default")
#: A timespan as Sigma writes it, in ASCII: pySigma takes whatever Python's ``int`` takes.
_TIMESPAN = re.compile(r"[1-9][0-9]{0,5}[smhdwMy]")
LONGEST = 64

#: The ids of the findings that this module makes besides what it refuses to load.
ALERT, KNOB = "alert-view", "knob"


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
            findings.append(Finding(str(rule.path), number, said_of(line), "fill it in"))
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
    elif usable and correlation.window > Timespan.parse(rule.lookback).seconds:
        line = main.line("correlation", "timespan")
        what = f"the window {correlation.timespan} is longer than the look-back {rule.lookback}"
        yield Finding(path, line, what, 'shorten it, or state a longer "lookback:"', KNOB)

"""The one reader of rules: a file, and everything that keeps it from being loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detection_pack.model.detections import Fault
from detection_pack.model.documents import Document, load_documents, read_text
from detection_pack.model.findings import REFUSED, Finding, PackError
from detection_pack.model.limits import MAX_RULE_BYTES, limit_faults
from detection_pack.model.own_keys import own_key_faults
from detection_pack.model.placeholders import placeholders
from detection_pack.model.reading import Reading
from detection_pack.model.refused_forms import old_forms
from detection_pack.model.rule import TIERS, Rule
from detection_pack.model.sigma_faults import SIGMA, sigma_faults

#: A rule's name becomes a file name, a macro name and a KQL identifier.
NAME = re.compile(r"[a-z][a-z0-9_]{2,63}")
#: Windows opens a device by these names, whatever ending they have ("Naming Files, Paths, and Namespaces");
#: [default] of a Splunk .conf file holds the settings of all stanzas.
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]|default")
LONGEST = 64
RULE_NAME = "rule-name"


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
    """One Sigma file, parsed by pySigma. Raises `PackError` with every fault of it."""
    reading = read_rule(path, tier, named_by_stem)
    if reading.rule is None or reading.findings:
        raise PackError(reading.findings)
    return reading.rule


def read_rule(path: Path, tier: str, named_by_stem: bool = False) -> Reading:
    """One Sigma file as far as it can be read, with every fault of it.

    In the pack the main document's ``name`` is the file stem; in a folder of anybody's rules the file
    stem, made fit for a file name, is the name.
    """
    try:
        return _read(path, tier, named_by_stem)
    except PackError as error:
        return Reading(path, "", None, error.findings)
    except Exception as error:  # what nobody foresaw in one file must not end the work on the others
        what = f"cannot be read ({type(error).__name__}: {error})".split("\n")[0]
        return Reading(
            path, "", None, (Finding(str(path), 1, what, "write it as the rules of sigma/core are"),)
        )


def _read(path: Path, tier: str, named_by_stem: bool) -> Reading:
    findings: list[Finding] = []
    text = read_text(path, MAX_RULE_BYTES)
    documents = load_documents(path, text, findings)
    broken = bool(findings)
    mappings = [document for document in documents if isinstance(document.data, dict)]
    reading = Reading(path, text, None)
    if beyond := list(limit_faults(mappings)):
        return replace(reading, findings=(*findings, *beyond))
    findings += (found for document in documents for found in _shape_faults(reading, document))
    rules = [d for d in mappings if _is_rule(d)]
    if not rules:
        if not findings:
            findings.append(Finding(str(path), 1, "holds no Sigma rule", "write a rule or remove the file"))
        return replace(reading, findings=tuple(findings))
    # Where a document could not be read, it may have been the correlation.
    main, surplus = _main(rules)
    for document in surplus if not broken else ():
        what = "holds more than one rule"
        todo = "write one rule a file; only a correlation stands with the rules that it correlates"
        findings.append(Finding(str(path), document.line(), what, todo))
    name = name_of_file(path) if named_by_stem else path.stem
    # By identity: two documents may say the same.
    own = tuple(d for d in rules if not any(d is other for other in surplus))
    rule = Rule(name, path, tier, own, main, text)
    reading = replace(reading, rule=rule)
    findings += _name_faults(reading, main, name, checked=not named_by_stem and not broken)
    return _judged(reading, rule, findings)


def _judged(reading: Reading, rule: Rule, findings: Sequence[Finding]) -> Reading:
    """The reading with the faults of what the rule says; at the line of a placeholder only that is told."""
    faults: list[Fault] = []
    for document in rule.documents:
        faults += (
            Fault(reading.at(REFUSED, document, keys, what, todo), document, keys)
            for keys, what, todo in old_forms(document)
        )
    faults += own_key_faults(reading, rule)
    try:
        faults += sigma_faults(reading, rule)
    except PackError as error:
        # Nobody knows what to leave out, so nothing else can be looked at.
        findings, reading = [*findings, *error.findings], replace(reading, rule=None)
    in_pack = rule.tier in TIERS
    marked, silent = placeholders(rule.path, rule.text, rule.documents if in_pack else ())
    told = [f for f in (*findings, *(fault.finding for fault in faults)) if f.line not in silent]
    return replace(
        reading, findings=tuple(dict.fromkeys([*told, *marked])), faults=tuple(faults), silent=silent
    )


def _shape_faults(reading: Reading, document: Document) -> list[Finding]:
    data = document.data
    path = str(reading.path)
    if not isinstance(data, dict):
        return [Finding(path, document.line(), "is not a mapping", "write a Sigma rule")]
    todo = "write a rule or a correlation with its rules"
    if _is_rule(document):
        return []
    if "correlation" in data:
        what, todo = '"correlation" is not a mapping', "write its type, rules, timespan and condition"
        return [reading.at(SIGMA, document, ("correlation",), what, todo)]
    if "filter" in data:
        what = "is a Sigma filter, which is not applied: the rules that it is for are built without it"
        return [reading.at(REFUSED, document, ("filter",), what, "write its condition into these rules")]
    old = [reading.at(REFUSED, document, keys, what, todo) for keys, what, todo in old_forms(document)]
    return old or [reading.at(REFUSED, document, ("detection",), 'has no "detection:"', todo)]


def _is_rule(document: Document) -> bool:
    data = document.data
    if not isinstance(data, dict):
        return False
    return isinstance(data.get("detection" if "correlation" not in data else "correlation"), dict)


def _main(rules: Sequence[Document]) -> tuple[Document, list[Document]]:
    """The document that speaks for the file, and those that have no place beside it."""
    correlations = [d for d in rules if "correlation" in d.data]
    surplus = correlations[1:] if correlations else rules[1:]
    return (correlations or list(rules))[0], list(surplus)


def _name_faults(reading: Reading, main: Document, name: str, checked: bool) -> list[Finding]:
    found = []
    if checked and main.data.get("name") != name:
        what = f'the name "{main.data.get("name")}" is not the file\'s'
        found.append(reading.at(RULE_NAME, main, ("name",), what, f'write "name: {name}" or rename the file'))
    if not NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        todo = "use 3 to 64 of a-z, 0-9 and _, a letter first, and no reserved name"
        found.append(reading.at(RULE_NAME, main, ("name",), f'"{name}" cannot name a rule', todo))
    return found


def name_of_file(path: Path) -> str:
    """The stem of anybody's file, made fit to name a rule."""
    stem = re.sub(r"[^a-z0-9_]+", "_", path.stem.lower()).strip("_") or "rule"
    stem = stem if stem[0].isalpha() else f"rule_{stem}"
    stem = f"rule_{stem}" if len(stem) < 3 or _RESERVED.fullmatch(stem) else stem
    if len(stem) > LONGEST:
        # Two long names may begin alike.
        stem = f"{stem[: LONGEST - 9]}_{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return stem

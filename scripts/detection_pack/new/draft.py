"""``detection-pack new``: a rule, its events and its page, valid but for the placeholders in them.

Identifiers are random and the date is today's: no build depends on them before they are written down.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detection_pack.build.dist import make
from detection_pack.checks.events_file import LEAST_CASES
from detection_pack.model.documents import Document, load_documents
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.placeholders import MARKER, is_placeholder
from detection_pack.model.rule import TIERS, AlertView, Rule
from detection_pack.model.rule_files import NAME, rule_files
from detection_pack.new.carried import carried_over, renamed
from detection_pack.new.items import sigma_value
from detection_pack.new.layout import Block, Day, events_of, yaml_of
from detection_pack.new.near_misses import cases_of
from detection_pack.new.observed import observed
from detection_pack.new.templates import DATA, Case, Template, from_log_source, like
from detection_pack.new.values import Value, values_of

_TEXTS = ("type", "detail")


def draft(
    root: Path,
    name: str,
    rule: str | None = None,
    log_source: str | None = None,
    tier: str = "extended",
    values: Sequence[str] = (),
    log: Sequence[Path] = (),
    alone: bool = False,
) -> dict[str, str]:
    """The files of the rule ``name`` by their path relative to ``root``. Raises `PackError`.

    The rule is made like ``rule``, a name, from ``log_source``, such as ``product=m365,service=exchange``, or
    from the records of the files ``log``: what they
    share, or what they share in the field that the rule is about ``alone``.

    ``values`` are plain texts for the one field that the rule is about; without them they are placeholders.
    """
    if not NAME.fullmatch(name):
        raise PackError.at(
            "NAME", 1, f'"{name}" cannot name a rule', "use 3 to 64 of a-z, 0-9 and _, a letter first"
        )
    faults: list[Finding] = []
    pack = load_pack(root, findings=faults)
    paths = {
        "rule": f"sigma/{tier}/{name}.yml",
        "events": f"tests/events/{name}.yml",
        "page": f"docs/rules/{name}.md",
    }
    _check_free(root, pack, name, tuple(paths.values()))
    forms = values_of(values)
    said, seen = "--value" if values else "--like", list[Case]()
    if log:
        found = observed(pack, log, alone)
        template, forms, said = found.template, found.values, "--from-events"
        seen += found.cases
    elif log_source is not None:
        template = from_log_source(pack, log_source)
    else:
        template = like(pack, _liked(pack, rule or "", faults))
    documents = _documents(name, template, forms)
    texts = {"rule": "---\n".join(yaml_of(document) for document in documents)}
    _check_converts(pack, root / paths["rule"], tier, name, texts["rule"], said)
    prose = _prose()
    if template.correlated is None:
        defaults, cases = template.record, cases_of(template, forms)
        cases["match"] = [*seen, *cases["match"]]
    else:
        defaults = renamed(template.item, template.correlated.defaults, forms)
        cases = carried_over(template, template.correlated, forms)
    # Of records that were seen there may be too few: validate says so until their author adds more.
    if not log and min(map(len, cases.values())) < LEAST_CASES:
        what = f"gives fewer than {LEAST_CASES} events on a side"
        raise PackError.at(said, 1, what, "use other values, or another rule")
    texts["events"] = prose["events"].format(name=name) + events_of(name, defaults, cases)
    title = str(documents[-1]["title"])
    marked = "\n".join(f"- {place}" for place in _placeholders(documents))
    texts["page"] = prose["page"].format(
        title=title, placeholders=marked, rule=paths["rule"], events=paths["events"]
    )
    return {path: texts[kind] for kind, path in paths.items()}


def next_steps(name: str) -> str:
    """What to do with a new rule, as its author reads it in the terminal."""
    return str(_prose()["next_steps"]).format(name=name, marker=MARKER).rstrip()


def _liked(pack: Pack, name: str, faults: Sequence[Finding]) -> Rule:
    for rule in pack.rules:
        if rule.name == name:
            return rule
    own = [fault for fault in faults if Path(fault.path).stem == name]
    if own:
        raise PackError(own)
    known = ", ".join(rule.name for rule in pack.rules)
    raise PackError.at("--like", 1, f'names no rule of the pack: "{name}"', f"use {known}")


def _check_free(root: Path, pack: Pack, name: str, paths: Sequence[str]) -> None:
    taken = {path.stem: path for path, _ in rule_files(root)}
    for rule in pack.rules:
        for document in rule.documents:
            taken.setdefault(str(document.data.get("name")), rule.path)
    for used in (name, _event_name(name)):
        if used in taken:
            raise PackError.at(taken[used], 1, f'has the name "{used}"', "choose another name")
    for path in (*paths, *(f"sigma/{tier}/{name}.yml" for tier in TIERS)):
        if os.path.lexists(root / path):
            raise PackError.at(root / path, 1, "exists", "choose another name")


def _check_converts(pack: Pack, path: Path, tier: str, name: str, text: str, said: str) -> None:
    """Refuse what one of the platforms cannot say, before anything is written."""
    documents = tuple(load_documents(path, text))
    rule = Rule(name, path, tier, documents, documents[-1])
    try:
        make(replace(pack, rules=(rule,)))
    except PackError as error:
        first = error.findings[0]
        raise PackError.at(said, 1, first.what, first.todo) from error


def _event_name(name: str) -> str:
    """The name of the rule that a correlation counts, where it stands in the correlation's file."""
    return f"{name}_event"


def _prose() -> dict[str, Any]:
    prose: dict[str, Any] = load_documents(DATA / "prose.yml")[0].data
    return prose


def _documents(name: str, template: Template, values: Sequence[Value]) -> list[dict[str, Any]]:
    """The Sigma documents of the new rule, the one that speaks for the file last."""
    prose, today = _prose(), datetime.now(UTC).date().isoformat()
    documents = []
    for old in template.documents:
        main = old is template.documents[-1]
        part = prose["rule"] if main else prose["event"]
        new: dict[str, Any] = {
            "title": part["title"],
            "id": str(uuid.uuid4()),
            "name": name if main else _event_name(name),
            "status": prose["rule"]["status"],
            "description": Block(part["description"]),
            "references": [
                *(r for r in old.get("references") or () if str(r).startswith("https://attack.mitre.org/")),
                *([part["reference"]] if main else []),
            ],
            "author": prose["rule"]["author"],
            "date": Day(today),
            "tags": list(old.get("tags") or ()),
        }
        if "logsource" in old:
            new["logsource"] = old["logsource"]
        if "detection" in old:
            new["detection"] = _detection(old["detection"], template, values)
        if "correlation" in old:
            new["correlation"] = {**old["correlation"], "rules": [_event_name(name)]}
        new["falsepositives"] = [part["falsepositive"]]
        new["level"] = part["level"]
        if main:
            new |= {"confidence": part["confidence"]}
            kept = ("required_tables", "data_sources", "lookback", "whole_terms", "windows", "absent")
            new |= {key: old[key] for key in kept if key in old}
            new["alert"] = _alert(old["alert"], part)
        documents.append(new)
    return documents


def _detection(old: Mapping[str, Any], template: Template, values: Sequence[Value]) -> dict[str, Any]:
    selection, key = template.slot
    written = [sigma_value(value.written["value"]) for value in values]
    return {**old, selection: {**old[selection], key: written}}


def _alert(old: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The alert view, its texts placeholders; the fields that the old line shows stand in the new one."""
    parts = AlertView(type="", detail=str(old["detail"])).detail_parts()
    shown = " ".join(dict.fromkeys(f"{{{field}}}" for is_field, field in parts if is_field))
    detail = f"{part['alert_detail']}: {shown}" if shown else part["alert_detail"]
    return {"type": part["alert_type"], "detail": detail, **{k: v for k, v in old.items() if k not in _TEXTS}}


def _placeholders(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each placeholder of the rule with what it asks for, once."""
    found = (
        f"`{keys[0]}`: {' '.join(str(value).removeprefix(f'{MARKER}: ').split())}"
        for data in documents
        for keys, value in Document(Path(), data, {}).scalars()
        if is_placeholder(value)
    )
    return list(dict.fromkeys(found))

"""The investigation queries with a value put in by the pack's own conversion, for every platform.

A value is text: whatever it holds, it stays one value of its field. Letter case and escapes are the
conversion's to see to, which no search and replace in a finished query could do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.rule import INVESTIGATION, Rule
from detection_pack.platforms.platform import Platform, platforms


@dataclass(frozen=True)
class ReadyQuery:
    """One query: of which rule, on which platform, in which language."""

    rule: str
    title: str
    platform: str
    language: str
    query: str

    def as_json(self) -> dict[str, str]:
        return {
            "rule": self.rule,
            "title": self.title,
            "platform": self.platform,
            "language": self.language,
            "query": self.query,
        }


def parameters(rules: Iterable[Rule]) -> list[str]:
    """What the investigation queries ask for, once each: account, mailbox, application, address."""
    return sorted({str(rule.main.data["parameter"]["name"]) for rule in rules if rule.tier == INVESTIGATION})


def ready_queries(pack: Pack, values: Mapping[str, str], names: Sequence[str]) -> list[ReadyQuery]:
    """Every query that asks for one of these parameters, on the platforms of these names. Raises `PackError`
    for a value that is empty or does not print, and for one that a platform cannot say."""
    for name, value in values.items():
        if not value.strip() or not value.isprintable():
            what = "is empty or holds characters that do not print"
            option = "--user" if name == "account" else f"--{name}"
            raise PackError.at(option, 1, what, "write it as the log has it")
    found = []
    for rule in pack.rules:
        asked = rule.main.data.get("parameter") if rule.tier == INVESTIGATION else None
        if asked is None or asked["name"] not in values:
            continue
        filled = with_value(rule, str(asked["value"]), values[asked["name"]])
        for here in platforms(names):
            if pack.pipelines[here.id].absence(rule) is None:
                found += _queries(here, filled, pack)
    return found


def with_value(rule: Rule, old: str, new: str) -> Rule:
    """The rule with another value wherever its detection compares with the old one."""
    documents = tuple(
        replace(one, data={**one.data, "detection": _put(one.data.get("detection"), old, _literal(new))})
        for one in rule.documents
    )
    main = documents[rule.documents.index(rule.main)]
    return replace(rule, documents=documents, main=main)


def _put(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _put(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put(inner, old, new) for inner in value]
    return new if value == old else value


def _literal(text: str) -> str:
    """Text as a Sigma value without wildcards (Sigma specification, "Escaping")."""
    return "".join(f"\\{char}" if char in "\\*?" else char for char in text)


def _queries(here: Platform, rule: Rule, pack: Pack) -> list[ReadyQuery]:
    made = here.part(rule, pack.pipelines, pack.version)
    contents = {artefact.path: artefact.content for artefact in made.artefacts}
    found = []
    for form in here.forms:
        path = f"{here.id}/queries/{rule.name}{form.ending}"
        if form.exact and path in contents:
            text = contents[path].decode("utf-8")
            found.append(ReadyQuery(rule.name, rule.title, here.id, form.language, text))
    for form in here.forms:
        further = contents.get(f"{here.id}/{INVESTIGATION}/{rule.name}{form.ending}")
        if further is not None:
            text = further.decode("utf-8")
            found.append(ReadyQuery(rule.name, rule.title, here.id, form.language, text))
    return found


def queries_text(found: Sequence[ReadyQuery]) -> str:
    """The queries for people to copy, a title before each."""
    blocks = [
        f"# {one.title} ({one.rule}), {one.platform}, {one.language}\n{one.query.rstrip()}" for one in found
    ]
    return "\n\n".join(blocks)

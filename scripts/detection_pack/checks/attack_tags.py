"""ATT&CK tags against the tactics and techniques of the version in use."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from detection_pack.model.attack import Attack, attack, is_technique_tag, technique_faults
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding, Severity
from detection_pack.model.reading import Reading

#: Groups, software, mitigations and data sources, of which the pack carries no list.
_OTHER = re.compile(r"[gsm]\d{4}|ds\d{4}|dc\d{4}")


def attack_tags(reading: Reading) -> Iterator[Finding]:
    """Tags that name no tactic or technique in use, and techniques without any of their tactics. Outside of
    the pack these are warnings: a build leaves out what a format cannot name."""
    severity: Severity = "error" if reading.in_pack else "warning"
    yield from technique_faults(reading, severity)
    for document in reading.documents:
        tags = document.data.get("tags")
        if isinstance(tags, list):
            yield from _of_document(reading, document, tags, severity)


def _of_document(
    reading: Reading, document: Document, tags: list[object], severity: Severity
) -> Iterator[Finding]:
    known = attack()
    named = {i: str(tag).removeprefix("attack.") for i, tag in enumerate(tags) if str(tag)[:7] == "attack."}
    shorts = [name.replace("_", "-") for name in named.values()]
    stated = {tactic for short in shorts for tactic in known.former_tactics.get(short, (short,))}
    for index, name in named.items():
        if (fault := _fault(known, name, stated)) is not None:
            check, what, todo = fault
            yield reading.at(check, document, ("tags", index), what, todo, severity)


def _fault(known: Attack, name: str, stated: set[str]) -> tuple[str, str, str] | None:
    """The check, what is wrong with a tag, and what to do. ``stated`` are the tactics of the tags."""
    if is_technique_tag(name):
        technique = known.techniques.get(name.upper()) if name == name.lower() else None
        if technique is None or set(technique.tactics) & stated:
            return None
        wanted = " or ".join(f"attack.{tactic}" for tactic in technique.tactics)
        return (
            "technique-without-tactic",
            f'the tag "attack.{name}" stands without its tactic',
            f"add {wanted}",
        )
    if name in known.tactics or _OTHER.fullmatch(name):
        return None
    return ("unknown-tactic", *_unknown_tactic(known, name))


def _unknown_tactic(known: Attack, name: str) -> tuple[str, str]:
    if became := known.former_tactics.get(name.lower().replace("_", "-")):
        instead = " or ".join(f"attack.{short}" for short in became)
        return f'the tag "attack.{name}" names a tactic that {known} no longer has', f"use {instead}"
    by_id = {tactic.id.lower(): short for short, tactic in known.tactics.items()}
    candidates = [*known.tactics, *(short.replace("-", "_") for short in known.tactics)]
    near = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.6)
    meant = by_id.get(name.lower()) or (near[0].replace("_", "-") if near else None)
    todo = f'did you mean "attack.{meant}"?' if meant else f"use one of {', '.join(sorted(known.tactics))}"
    return f'the tag "attack.{name}" names no tactic of {known}', todo

"""ATT&CK tags against ATT&CK's own list of tactics and techniques."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from detection_pack.model.attack import UNKNOWN_TECHNIQUE, tactics, techniques, unknown_technique
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding
from detection_pack.model.reading import Reading

#: Groups, software, mitigations and data sources, of which the pack carries no list.
_OTHER = re.compile(r"[gsm]\d{4}|ds\d{4}|dc\d{4}")


def attack_tags(reading: Reading) -> Iterator[Finding]:
    """Tags that name no tactic or technique, and techniques without any of their tactics."""
    for document in reading.documents:
        tags = document.data.get("tags")
        if isinstance(tags, list):
            yield from _of_document(reading, document, tags)


def _of_document(reading: Reading, document: Document, tags: list[object]) -> Iterator[Finding]:
    named = {i: str(tag).removeprefix("attack.") for i, tag in enumerate(tags) if str(tag)[:7] == "attack."}
    for index, name in named.items():
        if (fault := _fault(name, set(named.values()))) is not None:
            check, what, todo = fault
            yield reading.at(check, document, ("tags", index), what, todo)


def _fault(name: str, others: set[str]) -> tuple[str, str, str] | None:
    """The check, what is wrong with a tag, and what to do."""
    technique = techniques().get(name.upper()) if re.fullmatch(r"t\d{4}(\.\d{3})?", name) else None
    if technique is None and re.match(r"t\d", name, re.IGNORECASE):
        return (UNKNOWN_TECHNIQUE, *unknown_technique(name))
    if technique is not None:
        wanted = " or ".join(f"attack.{tactic}" for tactic in technique.tactics)
        what = f'the tag "attack.{name}" stands without its tactic'
        return (
            None if set(technique.tactics) & others else ("technique-without-tactic", what, f"add {wanted}")
        )
    if name in tactics() or _OTHER.fullmatch(name):
        return None
    return ("unknown-tactic", *_unknown_tactic(name))


def _unknown_tactic(name: str) -> tuple[str, str]:
    by_id = {tactic.id.lower(): short for short, tactic in tactics().items()}
    candidates = [*tactics(), *(short.replace("-", "_") for short in tactics())]
    near = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.6)
    meant = by_id.get(name.lower()) or (near[0].replace("_", "-") if near else None)
    todo = f'did you mean "attack.{meant}"?' if meant else f"use one of {', '.join(sorted(tactics()))}"
    return f'the tag "attack.{name}" names no tactic of ATT&CK Enterprise', todo

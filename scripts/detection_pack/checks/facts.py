"""What the rules rest on and a vendor may change (`reference/facts.yml`): is it still as it was read?

A fact is ``id``, ``kind``, ``states``, ``source``, the date when it was ``read`` and the ``rules`` that rest
on it; where it is known, ``until``, the day from which it no longer holds; and ``confirmed: false`` where no
source states it directly.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from detection_pack.checks.catalogue import found
from detection_pack.model.detections import Keys
from detection_pack.model.documents import Document, load_documents
from detection_pack.model.findings import Finding, PackError

FILE = Path("reference") / "facts.yml"
KINDS = ("operation", "setting", "client", "permission", "retirement", "schema")
#: How long a statement is taken for true without being read again.
AGE = timedelta(days=365)
_NEEDED = ("id", "kind", "states", "source", "read", "rules")
_MAY = ("until", "confirmed")
_TODO = "read its source again and write the date, as CONTRIBUTING.md says"


def facts(root: Path) -> tuple[Document, list[dict[str, Any]]] | None:
    """The document and its facts; None for a pack without them. Raises `PackError`."""
    path = root / FILE
    if not path.is_file():
        return None
    [document] = load_documents(path)
    stated = document.data.get("facts") if isinstance(document.data, dict) else None
    if not isinstance(stated, list):
        raise PackError.at(path, 1, "is not a list of facts", 'write "facts:" and one mapping for each')
    return document, stated


def faults(root: Path, rules: Collection[str], today: date) -> Iterator[Finding]:
    """Each fact that is not well stated (error), or that is to be read again (warning). ``rules``: the names
    of the pack's."""
    try:
        held = facts(root)
    except PackError as error:
        yield from error.findings
        return
    if held is None:
        return
    document, stated = held
    known: set[str] = set()
    for index, one in enumerate(stated):
        wrong = _wrong(one, known)
        if wrong is not None:
            key, what, todo = wrong
            keys = ("facts", index, key) if isinstance(one, dict) and key in one else ("facts", index)
            yield found("fact", document.path, document.line(*keys), what, todo)
            continue
        known.add(one["id"])
        for number, name in enumerate(one["rules"]):
            if name not in rules:
                line = document.line("facts", index, "rules", number)
                yield found(
                    "fact", document.path, line, f'"{name}" is not a rule of the pack', "name one that is"
                )
        yield from _old(document, index, one, today)


def _wrong(one: Any, known: Collection[str]) -> tuple[str, str, str] | None:
    """The key, what is wrong with it and what to do."""
    if not isinstance(one, dict):
        return "", "is not a fact", f"write {', '.join(_NEEDED)}"
    if missing := [key for key in _NEEDED if not one.get(key)]:
        return "", f"a fact lacks {', '.join(missing)}", f"write {', '.join(_NEEDED)}"
    if strange := [str(key) for key in one if key not in (*_NEEDED, *_MAY)]:
        return strange[0], f'a fact has no "{strange[0]}"', f"write {', '.join((*_NEEDED, *_MAY))}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(one["id"])) or one["id"] in known:
        return "id", f'"{one["id"]}" cannot be the id of this fact', "write a-z, 0-9 and -, each id once"
    if one["kind"] not in KINDS:
        return "kind", f'"{one["kind"]}" is not a kind of fact', f"use {', '.join(KINDS)}"
    for key in ("read", "until"):
        if key in one and _day(one[key]) is None:
            return key, f'"{one[key]}" is not a date', "write one such as 2026-11-25"
    if not isinstance(one["rules"], list) or not all(isinstance(name, str) for name in one["rules"]):
        return "rules", "the rules of a fact are not a list of names", "write a list"
    if not isinstance(one.get("confirmed", True), bool):
        return (
            "confirmed",
            f'"{one["confirmed"]}" is neither true nor false',
            "write false where no source states it",
        )
    return None


def aged(document: Document, keys: Keys, of: str, today: date) -> Iterator[Finding]:
    """The same warning for any other date of reading, at these keys; none where it is not a date."""
    value: Any = document.data
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    read = _day(value)
    if read is not None and today - read > AGE:
        what = f"{of} was last read on {read}, more than a year ago"
        yield found("stale-fact", document.path, document.line(*keys), what, _TODO)


def _old(document: Document, index: int, one: dict[str, Any], today: date) -> Iterator[Finding]:
    read, until = _day(one["read"]), _day(one.get("until"))
    assert read is not None
    line = document.line("facts", index, "read")
    if read > today:
        yield found(
            "fact", document.path, line, f'"{one["id"]}" was read in the future', "write the day of reading"
        )
    elif until is not None and until <= today:
        line = document.line("facts", index, "until")
        what = f'"{one["id"]}" held until {until}; {_concerned(one)}'
        yield found("stale-fact", document.path, line, what, _TODO)
    elif today - read > AGE:
        what = f'"{one["id"]}" was last read on {read}, more than a year ago; {_concerned(one)}'
        yield found("stale-fact", document.path, line, what, _TODO)


def _concerned(one: dict[str, Any]) -> str:
    names = one["rules"]
    return f"{names[0]} rests on it" if len(names) == 1 else f"{len(names)} rules rest on it"


def _day(stated: Any) -> date | None:
    if type(stated) is date:
        return stated
    try:
        return date.fromisoformat(str(stated))
    except ValueError:
        return None

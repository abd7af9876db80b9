"""ATT&CK out of a site's own file: the STIX bundle ``enterprise-attack.json`` that MITRE publishes.

Source: "ATT&CK Data Model" in mitre-attack/attack-stix-data (USAGE.md): tactics are ``x-mitre-tactic``,
techniques ``attack-pattern``, successors relationships of the type ``revoked-by``, and the version is that of
``x-mitre-collection``. `attack.csv` is made of one by ``python -m detection_pack.model.attack_bundle FILE``,
which keeps what the pack knows of tactics that are gone.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detection_pack.model.attack import Attack, Tactic, Technique, packaged
from detection_pack.model.findings import PackError

#: Far above MITRE's own file, which has tens of megabytes and of thousands of objects.
MAX_BYTES = 128 * 1024 * 1024
MAX_OBJECTS = 250_000
#: Characters of a name; the longest of version 19 has 65.
MAX_NAME = 200
#: Revoked techniques in a row; ATT&CK has had two.
_MAX_CHAIN = 10

_CHAIN = "mitre-attack"
_WANTED = "name MITRE's enterprise-attack.json"

_Objects = Iterable[Mapping[str, Any]]


def load_attack(path: Path) -> Attack:
    """The version of ATT&CK Enterprise in a STIX bundle. Raises `PackError`, with one finding."""
    objects = _objects(path)
    tactics = _tactics(objects)
    techniques: dict[str, Technique] = {}
    revoked: list[str] = []
    deprecated: list[str] = []
    for one in _of_type(objects, "attack-pattern"):
        key = _external_id(one, r"T[0-9]{4}(\.[0-9]{3})?")
        if key is None:
            continue
        if one.get("revoked") is True:
            revoked.append(key)
        elif one.get("x_mitre_deprecated") is True:
            deprecated.append(key)
        elif (name := _name(one)) and (serves := _phases(one, tactics)):
            techniques.setdefault(key, Technique(key, name, serves))
    # What stands below a technique that is not there cannot be named in full.
    techniques = {k: t for k, t in techniques.items() if t.parent is None or t.parent in techniques}
    if not techniques:
        raise PackError.at(path, 1, "has no tactics and techniques of ATT&CK Enterprise", _WANTED)
    successors = _successors(objects, techniques)
    former = packaged().former_tactics
    return Attack(
        version=_version(objects),
        tactics=tactics,
        techniques=techniques,
        revoked={key: successors.get(key, "") for key in revoked if key not in techniques},
        deprecated=frozenset(deprecated) - techniques.keys(),
        former_tactics={
            short: kept
            for short, became in former.items()
            if short not in tactics and (kept := tuple(s for s in became if s in tactics))
        },
    )


def _objects(path: Path) -> list[Mapping[str, Any]]:
    try:
        bundle = json.loads(_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise PackError.at(path, 1, "is not JSON", _WANTED) from error
    listed = bundle.get("objects") if isinstance(bundle, dict) else None
    if not isinstance(listed, list) or bundle.get("type") != "bundle":
        raise PackError.at(path, 1, "is not a STIX bundle", _WANTED)
    if len(listed) > MAX_OBJECTS:
        raise PackError.at(path, 1, f"has more than {MAX_OBJECTS:,} objects", _WANTED)
    return [one for one in listed if isinstance(one, dict)]


def _bytes(path: Path) -> bytes:
    try:
        # Without O_NONBLOCK opening a pipe would wait for somebody to write to it.
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(opened, "rb") as file:
            about = os.fstat(opened)
            if not stat.S_ISREG(about.st_mode):
                raise PackError.at(path, 1, "is not a file", _WANTED)
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PackError.at(path, 1, f"cannot be read ({error.strerror})", _WANTED) from error
    if len(raw) > MAX_BYTES:
        raise PackError.at(path, 1, f"has more than {MAX_BYTES // 1024**2} MB", _WANTED)
    return raw


def _tactics(objects: _Objects) -> dict[str, Tactic]:
    """In the order of the matrix, as far as the pack's own version has it; then by id."""
    found: dict[str, Tactic] = {}
    for one in _of_type(objects, "x-mitre-tactic"):
        key, short = _external_id(one, r"TA[0-9]{4}"), one.get("x_mitre_shortname")
        gone = one.get("revoked") is True or one.get("x_mitre_deprecated") is True
        named = isinstance(short, str) and re.fullmatch(r"[a-z]{1,30}(-[a-z]{1,30}){0,5}", short)
        if key is not None and named and not gone and (name := _name(one)):
            found.setdefault(str(short), Tactic(key, name, str(short)))
    order = list(packaged().tactics)
    places = {short: order.index(short) if short in order else len(order) for short in found}
    return dict(sorted(found.items(), key=lambda item: (places[item[0]], item[1].id)))


def _phases(one: Mapping[str, Any], tactics: Mapping[str, Tactic]) -> tuple[str, ...]:
    phases = one.get("kill_chain_phases")
    stated = {
        str(phase.get("phase_name"))
        for phase in (phases if isinstance(phases, list) else ())
        if isinstance(phase, dict) and phase.get("kill_chain_name") == _CHAIN
    }
    return tuple(short for short in tactics if short in stated)


def _successors(objects: _Objects, techniques: Mapping[str, Technique]) -> dict[str, str]:
    """The technique in use that stands in for each revoked one, however often it was replaced."""
    ids = {
        str(one.get("id")): key
        for one in _of_type(objects, "attack-pattern")
        if (key := _external_id(one, r"T[0-9]{4}(\.[0-9]{3})?")) is not None
    }
    direct: dict[str, str] = {}
    for one in _of_type(objects, "relationship"):
        old, new = ids.get(str(one.get("source_ref"))), ids.get(str(one.get("target_ref")))
        if one.get("relationship_type") == "revoked-by" and old and new:
            direct[old] = new
    found: dict[str, str] = {}
    for old, new in direct.items():
        last = new
        for _ in range(_MAX_CHAIN):
            if last in techniques or last not in direct:
                break
            last = direct[last]
        if last in techniques:
            found[old] = last
    return found


def _version(objects: _Objects) -> str:
    stated = next((one.get("x_mitre_version") for one in _of_type(objects, "x-mitre-collection")), None)
    return (
        stated if isinstance(stated, str) and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}", stated) else ""
    )


def _of_type(objects: _Objects, kind: str) -> Iterable[Mapping[str, Any]]:
    return (one for one in objects if one.get("type") == kind)


def _external_id(one: Mapping[str, Any], form: str) -> str | None:
    references = one.get("external_references")
    for reference in references if isinstance(references, list) else ():
        if isinstance(reference, dict) and reference.get("source_name") == _CHAIN:
            stated = reference.get("external_id")
            if isinstance(stated, str) and re.fullmatch(form, stated):
                return stated
    return None


def _name(one: Mapping[str, Any]) -> str:
    """The object's name on one line; empty where it has none that could be shown."""
    stated = one.get("name")
    if not isinstance(stated, str):
        return ""
    shown = " ".join("".join(c if c.isprintable() else " " for c in stated).split())
    return shown if len(shown) <= MAX_NAME else ""


def table_of(attack: Attack) -> str:
    """The version as the pack carries it: the text of `attack.csv`. What was deprecated is not carried."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(("kind", "id", "name", "tactics", "successor"))
    rows.writerow(("version", attack.version, "ATT&CK Enterprise", "", ""))
    rows.writerows(("tactic", t.id, t.name, short, "") for short, t in attack.tactics.items())
    rows.writerows(
        ("former tactic", "", "", short, " ".join(became)) for short, became in attack.former_tactics.items()
    )
    rows.writerows(
        ("technique", key, t.name, " ".join(t.tactics), "") for key, t in sorted(attack.techniques.items())
    )
    rows.writerows(("revoked", key, "", "", new) for key, new in sorted(attack.revoked.items()))
    return written.getvalue()


if __name__ == "__main__":
    sys.stdout.write(table_of(load_attack(Path(sys.argv[1]))))

"""docs/coverage.md: which ways to other people's mail are detected, by others and by this pack.

The others' side stands in reference/coverage.yml, with its sources. Ours is read off the pack: a rule counts
where it is built for a platform, as an alert or, in the hunting tier, as a hunt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.build.dist import MANIFEST, Built
from detection_pack.build.navigator import PATH as NAVIGATOR
from detection_pack.languages.markdown import code, link, table, text
from detection_pack.model.documents import load_documents
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.pack import COVERAGE
from detection_pack.model.rule import BY_HAND
from detection_pack.platforms.platform import platforms

PAGE = Path("docs") / "coverage.md"
_SIGNATURE = "<!-- Made by detection-pack build from reference/coverage.yml: do not edit. -->"
_MARKS = {"alert": "●", "part": "◐", "hunt": "○"}
_NONE = "–"


def page(root: Path, built: Built) -> bytes | None:
    """The page; None for a pack without the data. Raises `PackError` with every fault of the data."""
    path = root / COVERAGE
    if not path.is_file():
        return None
    [document] = load_documents(path)
    data: Mapping[str, Any] = document.data
    entries = {entry["name"]: entry for entry in json.loads(built.files[MANIFEST])["rules"]}
    faults = []
    for index, behaviour in enumerate(data["behaviours"]):
        for number, name in enumerate(behaviour.get("rules", ())):
            if name not in entries:
                line = document.line("behaviours", index, "rules", number)
                what, todo = f'"{name}" is not a rule of the pack', "name one that is built"
                faults.append(Finding(str(path), line, what, todo))
        for peer, mark in behaviour.get("peers", {}).items():
            if peer not in data["peers"] or mark not in _MARKS:
                line = document.line("behaviours", index, "peers", peer)
                what, todo = f'"{peer}: {mark}" is not a mark of a peer', f"use {', '.join(_MARKS)}"
                faults.append(Finding(str(path), line, what, todo))
    if faults:
        raise PackError(faults)
    return ("\n\n".join(_parts(data, entries)) + "\n").encode()


def _parts(data: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    behaviours = data["behaviours"]
    marks = [_own_mark(behaviour, entries) for behaviour in behaviours]
    alerts, hunts = marks.count(_MARKS["alert"]), marks.count(_MARKS["hunt"])
    yield "# Coverage"
    yield _SIGNATURE
    yield (
        f"Of {len(behaviours)} ways to other people's mail this pack raises an alert for {alerts} and has a "
        f"hunting query for {hunts} more. Every rule that counts here is built and executed on its events, "
        "on each platform named with it. What others have was read in their public repositories, in "
        "the version below; a rule of theirs that we did not find counts as none."
    )
    layer = link("a layer of the ATT&CK Navigator", f"../dist/{NAVIGATOR}")
    yield f"By technique the rules are {layer}, to be opened there from a file."
    yield f"{_MARKS['alert']} alert, {_MARKS['hunt']} hunt, {_MARKS['part']} a part of it, {_NONE} none"
    peers: Mapping[str, Mapping[str, Any]] = data["peers"]
    rows = [
        (
            str(behaviour["number"]),
            text(behaviour["title"]),
            mark,
            *(_MARKS.get(behaviour.get("peers", {}).get(peer, ""), _NONE) for peer in peers),
        )
        for behaviour, mark in zip(behaviours, marks, strict=True)
    ]
    yield table(("", "behaviour", "this pack", *peers), rows)
    yield "## Our rules"
    named = {here.id: here.title.removeprefix("Microsoft ") for here in platforms()}
    listed = []
    for behaviour in behaviours:
        for name in behaviour.get("rules", ()):
            entry = entries[name]
            where = [title for key, title in named.items() if key not in entry.get("absent", {})]
            tier = "hunt" if entry["tier"] in BY_HAND else entry["level"]
            page = link(code(name), f"rules/{name}.md")
            listed.append((str(behaviour["number"]), page, text(tier), ", ".join(where)))
    yield table(("", "rule", "level", "platforms"), listed)
    notes = [f"- {b['number']}: {text(b['note'])}" for b in behaviours if b.get("note")]
    if notes:
        yield "## What to know of a mark"
        yield "\n".join(notes)
    yield "## Sources"
    yield f"Read on {data['read']}."
    yield "\n".join(f"- {_source(key, about)}" for key, about in peers.items())


def _own_mark(behaviour: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> str:
    tiers: Sequence[str] = [entries[name]["tier"] for name in behaviour.get("rules", ())]
    if any(tier not in BY_HAND for tier in tiers):
        return _MARKS["alert"]
    return _MARKS["hunt"] if tiers else _NONE


def _source(key: str, about: Mapping[str, Any]) -> str:
    note = f" ({text(about['note'])})" if about.get("note") else ""
    return f"{key}: {link(text(about['title']), str(about['address']))}, {text(about['version'])}{note}"

"""What rules are called together: the pack's own names, or for a run those of a folder of anybody's rules.

Splunk takes one app of an identifier, and one macro of a name that apps export: two collections must not
share theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NAME = re.compile(r"[a-z][a-z0-9_]{2,63}")


@dataclass(frozen=True)
class Collection:
    """``name`` is an identifier of a-z, 0-9 and _, ``title`` and ``about`` are for people. ``tag`` is what
    its rules are marked with; ``own``: the pack's."""

    name: str
    title: str
    about: str
    tag: str
    own: bool = False


PACK = Collection(
    "remote_email_collection",
    "Remote Email Collection",
    "Detections of MITRE ATT&CK T1114.002, Remote Email Collection, built from Sigma rules.",
    "Detection Pack",
    own=True,
)


def is_collection_name(text: str) -> bool:
    """Whether a text can be the name of a collection, and is not the pack's."""
    return _NAME.fullmatch(text) is not None and text != PACK.name


def of_folder(folder: str, name: str | None = None, title: str | None = None) -> Collection:
    """The collection of a folder of this name, where nobody gives it another ``name`` or ``title``."""
    if name is None:
        name = re.sub(r"[^a-z0-9]+", "_", folder.lower()).strip("_")[:40]
        name = name if is_collection_name(name) else f"rules_of_{name}".strip("_")
    stated = title or f"Rules of {folder}"
    shown = " ".join("".join(c if c.isprintable() else " " for c in stated).split())[:120] or name
    return Collection(name, shown, f"{shown}, built from Sigma rules.", shown)


_in_use: list[Collection] = []


def collection() -> Collection:
    """The collection that is built: the pack, unless this is `called` another."""
    return _in_use[-1] if _in_use else PACK


@contextmanager
def called(other: Collection) -> Iterator[None]:
    """Build these rules under the names of another collection."""
    _in_use.append(other)
    try:
        yield
    finally:
        _in_use.pop()

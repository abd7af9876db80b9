"""What follows from its inputs alone and is slow to find out, kept from one run to the next.

A query's translation depends on its text, the tables and the translator; asking it again for every run costs
more than running it over a small log. An answer is kept under a digest of everything that it follows from:
the inputs, this package's own files and the versions of the engines. So nothing kept outlives a change, and a
build or a query that somebody edited finds nothing of the old one.

The file is in the user's own cache folder (``DETECTION_PACK_CACHE`` names another; empty keeps nothing). What
is kept is data: SQL from it runs where every query does, without files or network. A file that cannot be
read or written is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

import detection_pack

FOLDER = "DETECTION_PACK_CACHE"
#: Packages whose answers are kept.
_ENGINES = ("duckdb", "duckdb-kql", "lark")
#: How many answers a file holds before the older half is removed.
MOST = 20_000
#: How many files of other versions stay.
_OTHERS = 2


def kept(kind: str, given: Sequence[str], make: Callable[[], Any]) -> Any:
    """What ``make`` returns, which is JSON and follows from ``kind`` and ``given`` alone; from the last time
    if it was asked before. An error of ``make`` is not kept."""
    store = _store(os.environ.get(FOLDER), os.getpid())
    if store is None:
        return make()
    key = _digest([kind, *given])
    with suppress(sqlite3.Error, ValueError):
        row = store.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return json.loads(row[0])
    made = make()
    with suppress(sqlite3.Error):
        found = store.execute(
            "INSERT OR REPLACE INTO kept(key, value) VALUES (?, ?)", (key, json.dumps(made))
        )
        if found.lastrowid and found.lastrowid % MOST == 0:
            store.execute("DELETE FROM kept WHERE rowid <= ?", (found.lastrowid - MOST // 2,))
    return made


def contents(paths: Iterable[Path]) -> str:
    """One digest of the names and contents of files."""
    return _digest([part for path in paths for part in (path.name, path.read_bytes())]).hex()


def _digest(parts: Iterable[str | bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        held = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(held).to_bytes(8, "big") + held)
    return digest.digest()


@cache
def _store(folder: str | None, process: int) -> sqlite3.Connection | None:
    """The file of this version of the package, opened by this process (a connection is not a child's)."""
    if folder == "":
        return None
    try:
        place = Path(folder) if folder else platformdirs.user_cache_path("detection-pack")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = place / f"kept-{_version()[:16]}.sqlite"
        if not path.exists():
            _remove_old(place)
        store = sqlite3.connect(path, timeout=5, isolation_level=None)
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = NORMAL")
        store.execute(
            "CREATE TABLE IF NOT EXISTS kept(number INTEGER PRIMARY KEY, key BLOB UNIQUE, value TEXT)"
        )
    except (OSError, sqlite3.Error):
        return None
    return store


def _remove_old(place: Path) -> None:
    """Leave the newest files of other versions."""
    found = sorted(place.glob("kept-*.sqlite"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[_OTHERS:]:
        for own in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            own.unlink(missing_ok=True)


@cache
def _version() -> str:
    """A digest of all that answers follow from besides their inputs."""
    [root] = detection_pack.__path__
    files = sorted(path for path in Path(root).rglob("*") if path.is_file() and path.suffix != ".pyc")
    named = [f"{name} {version(name)}" for name in _ENGINES]
    return _digest([sys.version, *named, contents(files)]).hex()

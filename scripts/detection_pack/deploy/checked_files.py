"""The files of a dist/ folder that are sent somewhere: each lies in the folder and is what the manifest says.

A folder from elsewhere is untrusted. What is checked is what is sent: each file is read once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.build.dist import MANIFEST
from detection_pack.model.findings import PackError
from detection_pack.platforms.built_file import TODO

#: More than any file of a build of thousands of rules.
MAX_BYTES = 100_000_000
_PATH = re.compile(r"[A-Za-z0-9_][\w.+-]*(/[A-Za-z0-9_][\w.+-]*)*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CheckedDist:
    """A platform's files by relative path, and every rule's name by its Sigma id."""

    files: Mapping[str, bytes]
    names: Mapping[str, str]


def checked_dist(dist: Path, platform: str) -> CheckedDist:
    """The files of one platform. Raises `PackError` for a manifest that is none, a path that leaves the
    folder, and a file that is missing, too large, or not what the manifest says."""
    manifest = dist / MANIFEST
    try:
        listed = json.loads(_bytes(dist, MANIFEST))
        names = {str(rule["id"]): str(rule["name"]) for rule in listed["rules"]}
        artefacts = [*listed["artefacts"], *(one for rule in listed["rules"] for one in rule["artefacts"])]
        digests = {_path(one["path"], manifest): _digest(one, manifest) for one in artefacts}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackError.at(manifest, 1, "is not a manifest of a pack", TODO) from error
    files = {}
    for path in sorted(path for path in digests if path.startswith(f"{platform}/")):
        content = _bytes(dist, path)
        if hashlib.sha256(content).hexdigest() != digests[path]:
            raise PackError.at(dist / path, 1, "is not what the manifest says of it", TODO)
        files[path] = content
    return CheckedDist(files, names)


def _path(path: Any, manifest: Path) -> str:
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise PackError.at(manifest, 1, f"lists {path!r}, which is no path in the folder", TODO)
    return path


def _digest(artefact: Mapping[str, Any], manifest: Path) -> str:
    digest = artefact["sha256"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise PackError.at(manifest, 1, f"has no SHA-256 of {artefact['path']}", TODO)
    return digest


def _bytes(dist: Path, path: str) -> bytes:
    """A file of the folder; no link leads out of it, and a pipe or a device is none."""
    whole = dist / path
    try:
        if not whole.resolve().is_relative_to(dist.resolve()):
            raise PackError.at(whole, 1, "lies outside of the folder", TODO)
        # A pipe without a writer would be waited for.
        with os.fdopen(os.open(whole, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PackError.at(whole, 1, "is not a file", TODO)
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise PackError.at(whole, 1, f"cannot be read ({why or type(error).__name__})", TODO) from error
    if len(content) > MAX_BYTES:
        raise PackError.at(whole, 1, "is larger than 100 MB", "deploy a smaller set of rules")
    return content

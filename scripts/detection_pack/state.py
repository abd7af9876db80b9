"""What a build of a folder of rules leaves behind, so that the next one converts only what has changed.

It is one file in the folder that was built, listed in the manifest like the others. Whatever could change
an outcome is in its key: this package, the pipelines, pySigma and its backends, Python, the platforms. An
outcome is used again only where the rule's file has the digest that it had and each of its artefacts still is
what the state says.

The state is data of the folder's owner and is read as such: what does not fit is as if it were not there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform as python_platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detection_pack.documents import read_bytes
from detection_pack.findings import Finding, PackError
from detection_pack.limits import MAX_RULE_BYTES
from detection_pack.outcomes import Outcome, Setting
from detection_pack.platforms.conversion import Artefact, Part

FILE = ".build-state.json"
_CONVERTERS = (
    "pysigma",
    "pysigma-backend-kusto",
    "pysigma-backend-splunk",
    "pysigma-backend-elasticsearch",
    "pyyaml",
)
_PACKAGE = Path(__file__).parent
#: Where an artefact of a rule can be: below the folder, at no other place of the state's choosing.
_ARTEFACT = re.compile(r"[a-z]+(?:/[a-z]+)?/[a-z0-9_]+(?:\.[a-z]+)+")
MAX_ARTEFACT_BYTES = 16 * 1024 * 1024
MAX_STATE_BYTES = 1024 * 1024 * 1024


def key(pipelines: Path, setting: Setting) -> str:
    """One digest of everything besides the rules that a build depends on."""
    whole = hashlib.sha256()
    for folder in (_PACKAGE, pipelines):
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            whole.update(f"{path.relative_to(folder)}\0".encode())
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    versions = [importlib.metadata.version(name) for name in _CONVERTERS]
    versions += [python_platform.python_version(), setting.version]
    whole.update(json.dumps([versions, list(setting.platforms)]).encode())
    return whole.hexdigest()


class Kept:
    """What the build before has for the next one, and what this one leaves.

    ``rules_dir`` holds the rules, ``key`` is that of the build, ``folder`` has the build before, if any.
    """

    def __init__(self, rules_dir: Path, key: str, folder: Path | None) -> None:
        self._rules_dir = rules_dir
        self._key = key
        self._folder = folder
        self._digests: dict[Path, str | None] = {}
        self._rules: Mapping[str, Any] = {}
        if folder is not None:
            try:
                stated = json.loads(read_bytes(folder / FILE, MAX_STATE_BYTES))
                self._rules = dict(stated["rules"]) if stated["key"] == key else {}
            except (PackError, ValueError, KeyError, TypeError, RecursionError):
                pass

    def outcome(self, path: Path) -> Outcome | None:
        """The outcome of an unchanged rule; None for any other, or where an artefact is not what it was."""
        stated = self._rules.get(self._name(path))
        try:
            if stated is None or stated["digest"] is None or stated["digest"] != self._digest(path):
                return None
            parts = {name: self._part(stated["name"], part) for name, part in stated["parts"].items()}
            refused = tuple(Finding(**(finding | {"path": str(path)})) for finding in stated["refused"])
            return Outcome(str(path), stated["name"], stated["entry"], stated["lines"], parts, refused)
        except (PackError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _part(self, rule: str, stated: Mapping[str, Any]) -> Part:
        assert self._folder is not None  # there is no state without it
        artefacts = []
        for path, expected in stated["artefacts"].items():
            if not _ARTEFACT.fullmatch(path):
                raise ValueError(path)
            content = read_bytes(self._folder / path, MAX_ARTEFACT_BYTES)
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(path)
            artefacts.append(Artefact(path, content, rule))
        return Part(rule, stated["tier"], tuple(artefacts), stated["shared"], tuple(stated["claims"]))

    def text(self, found: Mapping[Path, Outcome]) -> bytes:
        """The state of these outcomes. The content of artefacts is left to their own files.

        In ASCII: the name of a rule's file may hold bytes that are no UTF-8.
        """
        rules = {
            self._name(path): {"digest": self._digest(path), **_plain(one)} for path, one in found.items()
        }
        return (json.dumps({"key": self._key, "rules": rules}) + "\n").encode()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._rules_dir).as_posix()

    def _digest(self, path: Path) -> str | None:
        """The SHA-256 of a rule's file as it was first looked at; None where it is not to be read."""
        if path not in self._digests:
            try:
                self._digests[path] = hashlib.sha256(read_bytes(path, MAX_RULE_BYTES)).hexdigest()
            except PackError:
                self._digests[path] = None
        return self._digests[path]


def _plain(one: Outcome) -> dict[str, Any]:
    """An outcome without the folder of its rule: the same rules elsewhere have the same state."""
    parts = {
        name: {
            "tier": part.tier,
            "artefacts": {a.path: hashlib.sha256(a.content).hexdigest() for a in part.artefacts},
            "shared": part.shared,
            "claims": part.claims,
        }
        for name, part in one.parts.items()
    }
    refused = [{k: v for k, v in asdict(finding).items() if k != "path"} for finding in one.refused]
    return {"name": one.name, "entry": one.entry, "lines": one.lines, "parts": parts, "refused": refused}

"""What a build of a folder of rules leaves behind, so that the next one converts only what has changed.

It is one file in the folder that was built, beside the manifest. Whatever could change an outcome is in its
key: this package, the pipelines, pySigma and its backends, Python, the platforms. An outcome is used again
only where the rule's file has the digest that it had and each of its artefacts still is what the state says.
The state is data of the folder's owner and is read as such: what does not fit is as if it were not there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform as python_platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detection_pack.findings import Finding
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


def key(root: Path, setting: Setting) -> str:
    """One digest of everything besides the rules that a build depends on."""
    whole = hashlib.sha256()
    for folder in (_PACKAGE, root / "pipelines"):
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            whole.update(f"{path.relative_to(folder)}\0".encode())
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    versions = [importlib.metadata.version(name) for name in _CONVERTERS]
    versions += [python_platform.python_version(), setting.version]
    whole.update(json.dumps([versions, list(setting.platforms)]).encode())
    return whole.hexdigest()


def digest(path: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def text(key_of_build: str, found: Sequence[Outcome], digests: Mapping[str, str | None]) -> bytes:
    """The state file of these outcomes. The content of artefacts is left to their own files.

    In ASCII: the name of a rule's file may hold bytes that are no UTF-8.
    """
    rules = {one.path: {"digest": digests[one.path], **_plain(one)} for one in found}
    return json.dumps({"key": key_of_build, "rules": rules}).encode()


def _plain(one: Outcome) -> dict[str, Any]:
    parts = {
        name: {
            "tier": part.tier,
            "artefacts": {a.path: hashlib.sha256(a.content).hexdigest() for a in part.artefacts},
            "shared": part.shared,
            "claims": part.claims,
        }
        for name, part in one.parts.items()
    }
    refused = [asdict(finding) for finding in one.refused]
    return {"name": one.name, "entry": one.entry, "lines": one.lines, "parts": parts, "refused": refused}


@dataclass(frozen=True)
class Kept:
    """The outcomes of the build before, by the path of their rule."""

    folder: Path = Path()
    rules: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, key_of_build: str) -> Kept:
        """What ``folder`` has for a build with this key; nothing where there is none."""
        try:
            stated = json.loads((folder / FILE).read_bytes())
            if stated["key"] == key_of_build:
                return cls(folder, dict(stated["rules"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return cls()

    def outcome(self, path: str, digest_of_rule: str | None) -> Outcome | None:
        """The outcome of an unchanged rule; None for any other, or where an artefact is not what it was."""
        stated = self.rules.get(path)
        try:
            if digest_of_rule is None or stated is None or stated["digest"] != digest_of_rule:
                return None
            parts = {name: self._part(stated["name"], part) for name, part in stated["parts"].items()}
            refused = tuple(Finding(**finding) for finding in stated["refused"])
            return Outcome(path, stated["name"], stated["entry"], stated["lines"], parts, refused)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _part(self, rule: str, stated: Mapping[str, Any]) -> Part:
        artefacts = []
        for path, expected in stated["artefacts"].items():
            content = (self.folder / path).read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(path)
            artefacts.append(Artefact(path, content, rule))
        return Part(rule, stated["tier"], tuple(artefacts), stated["shared"], tuple(stated["claims"]))

"""A product that rules are deployed to: what we would put there, what is there, and the two compared.

What a platform's API needs is in the platform's folder (``deploy.py``); who asks it, and in which order, is
the room `deploy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection_pack.model.findings import PackError

#: Where credentials are: nowhere else.
Environment = Mapping[str, str]


@dataclass(frozen=True)
class Deployable:
    """One thing to deploy. ``kind`` is for people, ``id`` the product's name of it; ``body`` what we send."""

    rule: str
    kind: str
    id: str
    body: Mapping[str, Any]


class DeployTarget(ABC):
    """One kind of thing in one product. The methods raise `PackError`."""

    #: Keys of a body that belong to the product's users once it is there: never compared, never changed.
    theirs: frozenset[str] = frozenset()
    #: Whether it belongs to the product's users once it is there: made where it is missing, never changed.
    once: bool = False

    @abstractmethod
    def items(self) -> Sequence[Deployable]:
        """What we would put there."""

    @abstractmethod
    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        """What the product has under this id, in the form of a body; None if it has nothing."""

    @abstractmethod
    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        """Put what is new there; nothing that is there is touched. Why it failed, by id, where it did.

        What is created is read again by the caller, so a failure that the product does not tell is found.
        """

    @abstractmethod
    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        """Change what is ``there`` in these keys of the body, and in nothing else."""

    def kept(self, item: Deployable, there: Mapping[str, Any]) -> list[str]:
        """What of it is the users' own, in words."""
        return []


#: What of dist/ is sent, by relative path, checked against the manifest.
DistFiles = Mapping[str, bytes]


@dataclass(frozen=True)
class DeployRequest:
    """What a person asks to deploy. ``url`` is the product's, where it has one of its own; ``names`` the
    rules' names by their Sigma id; ``options`` are those of one platform alone."""

    dist: Path
    files: DistFiles
    environment: Environment
    url: str | None = None
    ca_file: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def differing(body: Mapping[str, Any], there: Mapping[str, Any], theirs: frozenset[str]) -> list[str]:
    """The keys of ``body`` that say something else than what is there, sorted."""
    return sorted(key for key in body if key not in theirs and not same(body[key], there.get(key)))


def same(ours: Any, theirs: Any) -> bool:
    """Whether a product has what we would send.

    A product adds keys of its own, leaves out what is empty or false, ends lines its own way, and may order a
    list of plain values: all that is no difference.
    """
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping):
            return _empty(ours) and _empty(theirs)
        return all(same(value, theirs.get(key)) for key, value in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return False
        if all(isinstance(one, str) for one in [*ours, *theirs]):
            return sorted(map(_lines, ours)) == sorted(map(_lines, theirs))
        return all(same(*pair) for pair in zip(ours, theirs, strict=True))
    if isinstance(ours, str) and isinstance(theirs, str):
        return _lines(ours) == _lines(theirs)
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs or (not ours and not theirs)
    return bool(ours == theirs) or (_empty(ours) and _empty(theirs))


def _empty(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_empty(one) for one in value.values())
    return value is None or value is False or value in ("", [])


def _lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def refused_file(path: str, why: str) -> PackError:
    """The error for a file of dist/ that holds what a build of ours does not write."""
    return PackError.at(path, 1, why, "deploy what detection-pack build has written")


def secret(environment: Environment, name: str) -> str | None:
    """A credential of the environment; None where it is missing or empty. Raises `PackError` for one that
    cannot stand in a header, without showing it."""
    value = environment.get(name, "").strip()
    if not value:
        return None
    if not value.isascii() or not value.isprintable():
        raise PackError.at(
            name, 1, "holds a character that no header takes", "set it to the credential alone"
        )
    return value

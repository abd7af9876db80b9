"""Semantic versions, for those who import the pack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from detection_pack.model.findings import PackError

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", re.ASCII)


class Bump(IntEnum):
    """Which part of the version a change raises."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True, order=True)
class Version:
    """``major.minor.patch``."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str, path: Path | str) -> Version:
        """Raises `PackError`, about ``path``, for anything but three numbers."""
        if (found := _VERSION.fullmatch(text)) is None:
            what = f'the version "{text}" is not major.minor.patch'
            raise PackError.at(path, 1, what, 'write three numbers, such as "1.2.0"')
        return cls(*map(int, found.groups()))

    def raised(self, bump: Bump) -> Version:
        """The version after a change."""
        if bump is Bump.MAJOR:
            return Version(self.major + 1, 0, 0)
        if bump is Bump.MINOR:
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + bump)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

"""Which version follows a change, for those who import the pack. The versions themselves are `semver`'s."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

from semver import Version

from detection_pack.model.findings import PackError

#: Pre-releases and build labels are no versions of a pack.
_PLAIN = re.compile(r"[0-9.]+")


class Bump(IntEnum):
    """Which part of the version a change raises."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


def version_of(text: str, path: Path | str) -> Version:
    """Raises `PackError`, about ``path``, for anything but three numbers."""
    try:
        if not _PLAIN.fullmatch(text):
            raise ValueError(text)
        return Version.parse(text)
    except ValueError as error:
        what = f'the version "{text}" is not major.minor.patch'
        raise PackError.at(path, 1, what, 'write three numbers, such as "1.2.0"') from error


def raised(version: Version, bump: Bump) -> Version:
    """The version after a change."""
    return version if bump is Bump.NONE else version.next_version(bump.name.lower())

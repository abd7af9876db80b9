"""New files of the pack: all or none, and never in the place of one that exists."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from detection_pack.model.findings import PackError


def write(root: Path, files: Mapping[str, str]) -> list[Path]:
    """Write all files, by their path relative to ``root``, or none. Raises `PackError`."""
    made: list[Path] = []
    try:
        for relative, text in files.items():
            target = root / relative
            for folder in _missing_folders(root, target.parent):
                folder.mkdir()
                made.append(folder)
            _create(target, text)
            made.append(target)
    except BaseException as error:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        if isinstance(error, FileExistsError):
            raise PackError.at(error.filename, 1, "exists", "choose another name") from error
        if isinstance(error, OSError):
            what = f"cannot be written ({error.strerror})"
            raise PackError.at(error.filename or root, 1, what, "check its permissions") from error
        raise
    return [root / relative for relative in files]


def _missing_folders(root: Path, folder: Path) -> list[Path]:
    """The folders to make, outermost first. What is there already must be a folder inside the pack."""
    chain = [folder, *folder.parents]
    there = next(path for path in chain if path.exists())
    if not there.is_dir():
        raise PackError.at(there, 1, "is not a folder", "make it one")
    if not there.resolve().is_relative_to(root.resolve()):
        raise PackError.at(there, 1, "leads out of the pack", "make it a folder of the pack")
    return chain[: chain.index(there)][::-1]


def _create(target: Path, text: str) -> None:
    """Write a new file whole under its name. Raises `FileExistsError` rather than replace one."""
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    fresh = Path(temporary)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        fresh.chmod(0o644)
        try:
            # Unlike a rename, a link never takes the place of a file.
            target.hardlink_to(fresh)
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        except OSError:
            # A file system without links.
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
            fresh.rename(target)
    finally:
        fresh.unlink(missing_ok=True)

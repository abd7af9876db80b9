"""Folders that are written whole: replaced by what was made, all of them or none, and checked against it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.model.findings import Finding, PackError


@dataclass(frozen=True)
class Folder:
    """A folder and its files by relative path.

    One that is there already is ours if its file ``mark`` holds ``signature``, or, where it has no such file
    yet, if all its files do.
    """

    path: Path
    files: Mapping[str, bytes]
    mark: str
    signature: str

    def is_as_it_should_be(self) -> bool:
        """Whether exactly these files are there."""
        there = {path.relative_to(self.path).as_posix(): path for path in _files(self.path)}
        return there.keys() == self.files.keys() and all(
            path.read_bytes() == self.files[name] for name, path in there.items()
        )


def replace_folders(folders: Sequence[Folder]) -> None:
    """Replace every folder whole. Nothing is written unless everything can be; what is already as it should
    be stays.

    A folder with files that is not one of ours is refused rather than deleted. All new folders are made
    beside the old ones before the first takes its name, in one rename each; one that cannot puts the others
    back. Raises `PackError`.
    """
    for folder in folders:
        _check_replaceable(folder)
    folders = [folder for folder in folders if not folder.is_as_it_should_be()]
    fresh: list[Path] = []
    moved: list[tuple[Path, Path]] = []
    out = Path()
    try:
        for folder in folders:
            out = folder.path
            out.parent.mkdir(parents=True, exist_ok=True)
            fresh.append(Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent)))
            _write_files(fresh[-1], folder.files)
            fresh[-1].chmod(0o755)
        for folder, made in zip(folders, fresh, strict=True):
            out, old = folder.path, made.with_name(made.name + "-old")
            if out.exists():
                out.rename(old)
            moved.append((out, old))
            made.rename(out)
    except OSError as error:
        for path, old in reversed(moved):
            _put_back(path, old)
        raise PackError.at(
            out, 1, f"cannot be written ({error.strerror})", "check its permissions"
        ) from error
    finally:
        for made in fresh:
            shutil.rmtree(made, ignore_errors=True)
    for _, old in moved:
        shutil.rmtree(old, ignore_errors=True)


def stale_files(folder: Folder, name: str) -> list[Finding]:
    """Each file of the folder, which messages call ``name``, that is not as it should be."""
    todo = "run detection-pack build"
    findings = []
    for relative, content in sorted(folder.files.items()):
        path = folder.path / relative
        if not path.is_file():
            findings.append(Finding(str(path), 1, "is missing", todo))
        elif (found := path.read_bytes()) != content:
            findings.append(Finding(str(path), _first_difference(found, content), "is stale", todo))
    findings += [
        Finding(str(path), 1, f"does not belong in {name}", todo)
        for path in _files(folder.path)
        if path.relative_to(folder.path).as_posix() not in folder.files
    ]
    return findings


def _check_replaceable(folder: Folder) -> None:
    out = folder.path
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise PackError.at(out, 1, "is not a folder", "name a folder for --out")
    marked = [out / folder.mark] if (out / folder.mark).exists() else _not_folders(out)
    if not all(_signed(path, folder.signature) for path in marked):
        raise PackError.at(out, 1, "holds files that no build made", "name an empty folder for it")


def _signed(path: Path, signature: str) -> bool:
    try:
        return path.is_file() and signature.encode() in path.read_bytes()
    except OSError:
        return False


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files with mode 644 below a new folder, with as few calls of the system as there can be."""
    mask = os.umask(0o022)
    try:
        for parent in sorted({relative.rpartition("/")[0] for relative in files} - {""}):
            (folder / parent).mkdir(parents=True, exist_ok=True)
        for relative, content in sorted(files.items()):
            target = os.open(f"{folder}/{relative}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with open(target, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor has no path
                file.write(content)
    finally:
        os.umask(mask)


def _put_back(out: Path, old: Path) -> None:
    """Undo a folder's replacement, as far as it came."""
    with contextlib.suppress(OSError):
        if out.exists():
            shutil.rmtree(out)
        if old.exists():
            old.rename(out)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _not_folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _first_difference(found: bytes, expected: bytes) -> int:
    lines = zip(found.split(b"\n"), expected.split(b"\n"), strict=False)
    return next((n for n, (a, b) in enumerate(lines, start=1) if a != b), 1)

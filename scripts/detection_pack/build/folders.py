"""Folders that are written whole: replaced by what was made, all of them or none, and checked against it.

A build may be killed, the disk may fill, and another build may write the same folder. So all that is new is
written beside the old, read back in length, and takes its name in one step where the system can exchange two
names (Linux, renameat2 with RENAME_EXCHANGE). Elsewhere there is a moment without the folder; the next build
puts it back. Builds that write beside one another wait for each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.model.findings import Finding, PackError

#: What stands between a folder's name and the random end of the names that a build gives to what is new, and
#: to what was there where two names cannot be exchanged. Such folders are removed by the next build.
FRESH, OLD = "detection-pack-new", "detection-pack-old"
#: linux/fcntl.h and linux/fs.h.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


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
    beside the old ones before the first takes its name; one that cannot puts the others back. Raises
    `PackError`.
    """
    out = folders[0].path if folders else Path()
    try:
        for folder in folders:
            out = folder.path
            out.parent.mkdir(parents=True, exist_ok=True)
        with _locked([folder.path.parent for folder in folders]):
            for folder in folders:
                out = folder.path
                _recover(out)
                _check_replaceable(folder)
            _replace([folder for folder in folders if not folder.is_as_it_should_be()])
    except OSError as error:
        raise _unwritable(out, error) from error


def _replace(folders: Sequence[Folder]) -> None:
    fresh: list[Path] = []
    moved: list[tuple[Path, Path, int]] = []
    out = Path()
    try:
        for folder in folders:
            out = folder.path
            fresh.append(Path(tempfile.mkdtemp(prefix=f".{out.name}.{FRESH}-", dir=out.parent)))
            _write_files(fresh[-1], folder.files)
            fresh[-1].chmod(0o755)
        for folder, made in zip(folders, fresh, strict=True):
            out = folder.path
            # Noted before it is done: what is interrupted half-way is put back, too.
            moved.append((out, made, made.stat().st_ino))
            _take_name(made, out)
    except BaseException as error:
        for path, made, number in reversed(moved):
            _put_back(path, made, number)
        if isinstance(error, OSError):
            raise _unwritable(out, error) from error
        raise
    finally:
        for folder, made in zip(folders, fresh, strict=False):
            _remove(made)
            # Where even putting back failed, the next build has it to put back.
            if folder.path.exists():
                _remove(_old(made))


def _remove(folder: Path) -> None:
    """Remove a folder, as far as it can be. What is to end the program goes on: where it comes between the
    closing of a descriptor and the note that it is closed, `shutil` closes it again and raises `OSError`."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if error.__context__ is not None and not isinstance(error.__context__, Exception):
            raise error.__context__ from None


def _unwritable(out: Path, error: OSError) -> PackError:
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    todo = "make room for it, nothing was changed" if full else "check its permissions"
    return PackError.at(out, 1, f"cannot be written ({error.strerror})", todo)


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


@contextlib.contextmanager
def _locked(parents: Sequence[Path]) -> Iterator[None]:
    """Keep other builds out of these folders; a killed process keeps nobody out. Where the system has no
    `flock`, or a file system does not take it, there is no lock."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with contextlib.ExitStack() as held:
        # One order for all, so that two builds cannot wait for each other.
        for parent in sorted({parent.resolve() for parent in parents}):
            with contextlib.suppress(OSError):
                descriptor = os.open(parent, os.O_RDONLY)
                held.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _recover(out: Path) -> None:
    """Put back what a killed build had moved aside, and remove what it left."""
    with contextlib.suppress(FileNotFoundError):
        for kind in (OLD, FRESH):
            for left in sorted(out.parent.glob(f".{_escaped(out.name)}.{kind}-*")):
                if left.is_symlink() or not left.is_dir():
                    continue
                if kind == OLD and not out.exists():
                    left.rename(out)
                else:
                    _remove(left)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


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
    """Write files with mode 644 below a new folder. Raises `OSError` unless every byte is on the disk."""
    mask = os.umask(0o022)
    try:
        for parent in sorted({relative.rpartition("/")[0] for relative in files} - {""}):
            (folder / parent).mkdir(parents=True, exist_ok=True)
        for relative, content in sorted(files.items()):
            _write_file(f"{folder}/{relative}", content)
    finally:
        os.umask(mask)


def write_file(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all. Raises `PackError`."""
    fresh = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        try:
            _write_file(str(fresh), content)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise PackError.at(path, 1, what, "name a file in a folder that can be written") from error


def stale_file(path: Path, content: bytes, name: str) -> list[Finding]:
    """What ``build --check`` says of a file that is not ``content``."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return [Finding(name, 1, "is missing", "run detection-pack build")]
    if found == content:
        return []
    return [Finding(name, _first_difference(found, content), "is stale", "run detection-pack build")]


def _write_file(path: str, content: bytes) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    try:
        rest = memoryview(content)
        while rest:
            # A full disk or a limit takes a part first and refuses only what comes after it.
            written = os.write(target, rest)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            rest = rest[written:]
        os.fsync(target)
        if os.fstat(target).st_size != len(content):
            raise OSError(errno.EIO, "its length is not what was written", path)
    finally:
        os.close(target)


def _take_name(made: Path, out: Path) -> None:
    """Give ``out`` the content of ``made``; what was there is then called ``made``, or ``_old(made)``."""
    if not out.exists():
        made.rename(out)
    elif not _exchanged(made, out):
        out.rename(_old(made))
        made.rename(out)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two names were exchanged in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _old(made: Path) -> Path:
    return made.with_name(made.name.replace(f".{FRESH}-", f".{OLD}-"))


def _put_back(out: Path, made: Path, number: int) -> None:
    """Undo a folder's replacement, as far as it came. ``number`` is the inode of what is new."""
    with contextlib.suppress(OSError):
        old = _old(made)
        if out.exists() and out.stat().st_ino == number:
            if not made.exists():
                out.rename(made)
            elif not _exchanged(made, out):
                return
        if not out.exists() and old.exists():
            old.rename(out)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _not_folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _first_difference(found: bytes, expected: bytes) -> int:
    lines = zip(found.split(b"\n"), expected.split(b"\n"), strict=False)
    return next((n for n, (a, b) in enumerate(lines, start=1) if a != b), 1)

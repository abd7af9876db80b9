"""From what a person names to plain text files: folders, archives, encodings, standard input.

Everything behind this module is a file in UTF-8 without a byte order mark. What is that already is read where
it lies; anything else is written, in blocks, to a temporary folder. A member of an archive is untrusted: its
name is shown and never used as a path, and what it unpacks to is bounded.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from detection_pack.model.findings import Finding

BLOCK = 1 << 20
#: What one run may unpack in all, how many members an archive may have, how many times larger than its
#: archive a member may become (beyond `FREE` bytes), and how deep archives may lie in archives.
UNPACKED, MEMBERS, RATIO, FREE, NESTED = 64 << 30, 10_000, 1_000, 64 << 20, 2
_GZIP, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class TextFile:
    """A text file: what people call it, and where it lies, in UTF-8 without a byte order mark."""

    label: str
    path: Path


@dataclass
class Inputs:
    """The text files of one run. ``folder`` takes what is unpacked; ``unreadable`` and ``cut`` say what could
    not be read at all, and of what only the beginning could."""

    folder: Path
    unreadable: list[Finding] = field(default_factory=list)
    cut: list[Finding] = field(default_factory=list)
    _unpacked: int = 0
    _made: int = 0

    def files(self, paths: Sequence[Path]) -> Iterator[TextFile]:
        """What the paths name, in their order; a folder's files by name, without those that begin with a
        dot."""
        for path in paths:
            if str(path) == STANDARD_INPUT:
                yield from self._opened("standard input", self._spooled(sys.stdin.buffer), 0)
            elif path.is_dir():
                yield from self._of_folder(path)
            else:
                yield from self._of_path(path)

    def _of_folder(self, folder: Path) -> Iterator[TextFile]:
        for place, below, names in os.walk(folder):
            below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
            for name in sorted(names):
                path = Path(place) / name
                # A pipe would wait for ever, a link may lead anywhere.
                if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                    yield from self._of_path(path)

    def _of_path(self, path: Path) -> Iterator[TextFile]:
        try:
            if not path.is_file() and path.exists():
                with path.open("rb") as stream:
                    path, label = self._spooled(stream), str(path)
            else:
                label = str(path)
            yield from self._opened(label, path, 0)
        except OSError as error:
            self.unreadable.append(_unread(path, error.strerror or str(error)))

    def _opened(self, label: str, path: Path, depth: int) -> Iterator[TextFile]:
        with path.open("rb") as stream:
            head = stream.read(4096)
        packed = head.startswith((_GZIP, *_ZIP))
        if packed and depth == NESTED:
            self._refuse(label, "is an archive in an archive in an archive", "unpack it")
        elif head.startswith(_GZIP):
            with gzip.open(path, "rb") as unpacked:
                yield from self._unpacked_member(label, unpacked, path.stat().st_size, depth)
        elif head.startswith(_ZIP):
            yield from self._of_zip(label, path, depth)
        else:
            yield from self._text(label, path, head)

    def _of_zip(self, label: str, path: Path, depth: int) -> Iterator[TextFile]:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [one for one in archive.infolist() if not one.is_dir()]
                if len(members) > MEMBERS:
                    self._refuse(label, f"has more than {MEMBERS} members", "unpack it")
                    return
                for member in members:
                    base = member.filename.replace("\\", "/").rpartition("/")[2]
                    if base.startswith(".") or member.filename.startswith("__MACOSX"):
                        continue
                    name = f"{label}!{member.filename}"
                    try:
                        with archive.open(member) as unpacked:
                            size = max(member.compress_size, 1)
                            yield from self._unpacked_member(name, unpacked, size, depth)
                    except (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
                        self._refuse(name, f"cannot be unpacked ({error})", "unpack it yourself")
        except (zipfile.BadZipFile, ValueError) as error:
            self._refuse(label, f"cannot be unpacked ({error})", "unpack it yourself")

    def _unpacked_member(
        self, label: str, stream: IO[bytes] | gzip.GzipFile, packed: int, depth: int
    ) -> Iterator[TextFile]:
        target, size, bounded = self._new(), 0, True
        with target.open("wb") as out:
            try:
                while block := stream.read(BLOCK):
                    size += len(block)
                    self._unpacked += len(block)
                    if self._unpacked > UNPACKED or (size > FREE and size > packed * RATIO):
                        bounded = False
                        break
                    out.write(block)
            except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
                self.cut.append(
                    Finding(label, 1, f"is damaged ({error})", "read up to there; export it again")
                )
        if bounded:
            yield from self._opened(label, target, depth + 1)
        else:
            target.unlink()
            self._refuse(label, "unpacks to more than is plausible", "unpack it yourself")

    def _text(self, label: str, path: Path, head: bytes) -> Iterator[TextFile]:
        encoding, mark = _encoding(head)
        if encoding is None:
            self._refuse(label, "is not text", "export JSON or CSV")
        elif encoding == "utf-8" and not mark:
            yield TextFile(label, path)
        else:
            target = self._new()
            with path.open("rb") as stream, target.open("wb") as out:
                stream.seek(mark)
                _recode(stream, out, encoding)
            yield TextFile(label, target)

    def _spooled(self, stream: IO[bytes]) -> Path:
        target = self._new()
        with target.open("wb") as out:
            while block := stream.read(BLOCK):
                out.write(block)
        return target

    def _new(self) -> Path:
        self._made += 1
        return self.folder / f"{self._made}"

    def _refuse(self, label: str, what: str, todo: str) -> None:
        self.unreadable.append(Finding(label, 1, what, todo))


def absent(path: Path) -> Finding:
    """What is said of a path that names nothing."""
    return _unread(path, os.strerror(errno.ENOENT))


def _unread(path: Path, why: str) -> Finding:
    return Finding(str(path), 1, f"cannot be read ({why})", "check the path")


def _encoding(head: bytes) -> tuple[str | None, int]:
    """The encoding of a text by its first bytes, and the length of its mark; None for what is no text."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    if b"\0" not in head:
        return "utf-8", 0
    # Of text that is mostly ASCII, every other byte is zero in UTF-16.
    even, odd = head[0::2], head[1::2]
    zeros = even.count(0) / max(len(even), 1), odd.count(0) / max(len(odd), 1)
    if zeros[1] > 0.4 and zeros[0] < 0.1:
        return "utf-16-le", 0
    if zeros[0] > 0.4 and zeros[1] < 0.1:
        return "utf-16-be", 0
    return None, 0


def _recode(stream: IO[bytes], out: IO[bytes], encoding: str) -> None:
    """As UTF-8. Half of a surrogate pair stays one, which no reader takes for UTF-8: that record is
    skipped."""
    if encoding == "utf-8":
        while block := stream.read(BLOCK):
            out.write(block)
        return
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    rest = b""
    while block := stream.read(BLOCK):
        try:
            out.write(decoder.decode(block).encode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            rest = block
            break
    if rest:
        replacing = codecs.getincrementaldecoder(encoding)("replace")
        out.write(replacing.decode(rest).encode("utf-8", "replace"))
        while block := stream.read(BLOCK):
            out.write(replacing.decode(block).encode("utf-8", "replace"))

"""A .tgz that depends on its files alone: no clock, no user, no version of a compression library.

The members are sorted, owned by nobody in particular and dated 1970. The gzip stream holds stored blocks
(RFC 1951, 3.2.4; RFC 1952), because what a deflate library makes of the same bytes differs between versions.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Mapping

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no name, time 0, unknown system
_BLOCK = 0xFFFF


def tgz(files: Mapping[str, bytes]) -> bytes:
    """The archive of these files, by path with forward slashes; their folders are members too."""
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folders | set(files)):
            member = tarfile.TarInfo(path)
            if path in files:
                member.mode, member.size = 0o644, len(files[path])
                archive.addfile(member, io.BytesIO(files[path]))
            else:
                member.mode, member.type = 0o755, tarfile.DIRTYPE
                archive.addfile(member)
    return _gzip(packed.getvalue())


def _gzip(data: bytes) -> bytes:
    blocks = [data[i : i + _BLOCK] for i in range(0, len(data), _BLOCK)]
    stored = (
        struct.pack("<BHH", number == len(blocks), len(block), len(block) ^ 0xFFFF) + block
        for number, block in enumerate(blocks, start=1)
    )
    end = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return _HEADER + b"".join(stored) + end

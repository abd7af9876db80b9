"""A release: one archive a platform, with its import guide and licences, checksums and the changelog."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from detection_pack.build.dist import MANIFEST, Built
from detection_pack.build.folders import Folder, replace_folders
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.platform_names import PLATFORMS

NAME = "remote-email-collection"
CHECKSUMS = "SHA256SUMS"
#: What every archive holds besides, from the pack's folder.
COMMON = ("LICENSE", "LICENSE-RULES", "CHANGELOG.md", "docs/departures.md")
#: The earliest time that a zip can hold: archives must not depend on when they are made.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def release(pack: Pack, built: Built) -> dict[str, bytes]:
    """Every file of the release by name: the archives, the changelog and their checksums."""
    files = {"CHANGELOG.md": _source(pack.root, "CHANGELOG.md")}
    for platform in PLATFORMS:
        members = {path: content for path, content in built.files.items() if path.startswith(f"{platform}/")}
        members[MANIFEST] = built.files[MANIFEST]
        for name in (*COMMON, f"docs/import/{platform}.md"):
            members[name.rpartition("/")[2]] = _source(pack.root, name)
        files[f"{NAME}-{pack.version}-{platform}.zip"] = archive(f"{NAME}-{pack.version}", members)
    sums = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return {**files, CHECKSUMS: "".join(sums).encode()}


def archive(top: str, members: Mapping[str, bytes]) -> bytes:
    """A zip with one top folder; the same members give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name in sorted(members):
            entry = zipfile.ZipInfo(f"{top}/{name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            opened.writestr(entry, members[name])
    return buffer.getvalue()


def write_release(pack: Pack, built: Built, out: Path) -> list[str]:
    """Write the release into ``out``, whole or not at all; gives the names of its files."""
    files = release(pack, built)
    replace_folders([Folder(out, files, CHECKSUMS, f"  {NAME}-")])
    return sorted(files)


def _source(root: Path, name: str) -> bytes:
    try:
        return (root / name).read_bytes()
    except OSError as error:
        raise PackError.at(
            root / name, 1, "is missing, and a release holds it", "restore the file"
        ) from error

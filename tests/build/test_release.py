"""The trap: a release that differs from what was tested, or from its own checksums."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from conftest import DIST, ROOT
from detection_pack.build import dist as build
from detection_pack.build.release import release
from detection_pack.cli import main
from detection_pack.model.pack import Pack
from detection_pack.model.platform_names import PLATFORMS


def test_archives_hold_the_build_and_the_guide(pack: Pack) -> None:
    files = release(pack, build.make(pack))
    for platform in PLATFORMS:
        [name] = [name for name in files if name.endswith(f"-{platform}.zip")]
        with zipfile.ZipFile(io.BytesIO(files[name])) as opened:
            held = {n.partition("/")[2]: opened.read(n) for n in opened.namelist()}
            assert all(n.startswith(f"remote-email-collection-{pack.version}/") for n in opened.namelist())
        # Beside the build: who imports it needs the guide, both licences, what has changed, and what differs.
        documents = {
            f"{platform}.md": f"docs/import/{platform}.md",
            "departures.md": "docs/departures.md",
            **{name: name for name in ("LICENSE", "LICENSE-RULES", "CHANGELOG.md")},
        }
        assert {name: held.get(name) for name in documents} == {
            name: (ROOT / path).read_bytes() for name, path in documents.items()
        }
        assert {n for n in held if "/" not in n} == {*documents, "manifest.json"}
        ours = {
            p.relative_to(DIST).as_posix(): p.read_bytes()
            for p in (DIST / platform).rglob("*")
            if p.is_file()
        }
        assert ours and ours.items() <= held.items()
        assert not [n for n in held if n.split("/")[0] in set(PLATFORMS) - {platform}]


def test_checksums_and_determinism(tmp_path: Path, pack: Pack) -> None:
    out = tmp_path / "release"
    assert main(["--root", str(ROOT), "build", "--package", str(out)]) == 0
    lines = (out / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(PLATFORMS) + 1 == len(list(out.iterdir())) - 1
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    again = release(pack, build.make(pack))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == again


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), "build", "--package", str(tmp_path)])
    assert stopped.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]

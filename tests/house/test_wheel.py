"""The trap: a package that works in the folder that it was made from.

The source distribution is made, the wheel is built from it without the network, installed apart and run from
an empty folder: it must have rules, pipelines, events and artefacts with it, and write nothing among them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.cli import main
from detection_pack.model.pack import pack_version
from support.checkout import snapshot, tree

DATA = ("sigma", "pipelines", "response", "tests/atomics", "tests/events", "dist", "docs")
RULE = """title: Probe
logsource: {product: m365, service: exchange}
detection: {s: {Operation: Set-Mailbox}, condition: s}
"""
RECORD = {"Id": "1", "RecordType": 1, "Operation": "Search-Mailbox", "CreationTime": "2026-03-10T09:15:00"}


@dataclass(frozen=True)
class Installed:
    """A wheel and the folder that it is installed in."""

    wheel: Path
    site: Path

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The installed command, in a folder; nothing of the checkout is on its path before the wheel."""
        return subprocess.run(
            [str(self.site / "bin" / "detection-pack"), *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(self.site)},
        )


def python(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", ".hypothesis", "node_modules", "__pycache__", "*.egg-info", "build"
    )
    clone = base / "clone"
    clone.mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, clone / path.name)
        elif path.name not in ignored(str(ROOT), [path.name]):
            kept = shutil.ignore_patterns("node_modules", "__pycache__", "*.egg-info")
            shutil.copytree(path, clone / path.name, ignore=kept)
    (clone / "dist" / "detection_pack-0.0.1-py3-none-any.whl").write_bytes(b"left by a packaging tool")
    python(clone, "-c", f"from setuptools.build_meta import build_sdist; build_sdist({str(base)!r})")
    [archive] = base.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(base / "source", filter="data")
    [source] = (base / "source").iterdir()
    pip = ("-m", "pip", "--disable-pip-version-check")
    python(base, *pip, "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation", str(source))
    [wheel] = base.glob("*.whl")
    python(base, *pip, "install", "-q", "--no-index", "--no-deps", "--target", str(base / "site"), str(wheel))
    return Installed(wheel, base / "site")


def test_the_wheel_holds_the_packs_data_and_nothing_else(installed: Installed) -> None:
    top = "detection_pack/_pack/"
    with zipfile.ZipFile(installed.wheel) as opened:
        held = {n.removeprefix(top): opened.read(n) for n in opened.namelist() if n.startswith(top)}
    for name in DATA:
        files = snapshot(ROOT / name)
        mine = {
            path.removeprefix(f"{name}/"): text for path, text in held.items() if path.startswith(f"{name}/")
        }
        assert mine == {path: text for path, text in files.items() if not path.endswith((".whl", ".tar.gz"))}
    assert {name.split("/")[0] for name in held} == {
        *(name.split("/")[0] for name in DATA),
        "CHANGELOG.md", "LICENSE", "LICENSE-RULES", "pyproject.toml", "sigma-check.yml",
    }  # fmt: skip


def test_it_says_its_version(installed: Installed, tmp_path: Path) -> None:
    said = installed.run(tmp_path, "--version")
    assert (said.returncode, said.stdout) == (0, f"detection-pack {pack_version(ROOT)}\n")


def test_an_export_is_replayed_from_any_folder(installed: Installed, tmp_path: Path) -> None:
    cell = json.dumps(RECORD).replace('"', '""')
    export = f'RecordId,CreationDate,RecordType,Operation,UserId,AuditData\n1,,1,Search-Mailbox,,"{cell}"\n'
    (tmp_path / "export.csv").write_text(export, encoding="utf-8")
    # A project of somebody else's, which has folders and files of these names as well.
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pyproject.toml").write_text("", encoding="utf-8")
    said = installed.run(tmp_path, "replay", "export.csv", "--format", "json", "--platform", "sentinel")
    assert said.returncode == 0, said.stderr
    assert [hit["rule"] for hit in json.loads(said.stdout)["hits"]] == ["exchange_admin_cmdlet"]


def test_its_own_events_are_replayed(installed: Installed, tmp_path: Path) -> None:
    said = installed.run(tmp_path, "replay", "--platform", "sentinel", "--rule", "exchange_admin_cmdlet")
    assert said.returncode == 0 and "exchange_admin_cmdlet" in said.stdout, said.stdout + said.stderr


def test_a_folder_of_rules_is_built_as_in_a_checkout(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "probe.yml").write_text(RULE, encoding="utf-8")
    said = installed.run(tmp_path, "build", "--rules", "rules", "--out", "theirs")
    assert said.returncode == 0, said.stderr
    ours = ["build", "--rules", str(tmp_path / "rules"), "--out", str(tmp_path / "ours")]
    assert main(["--root", str(ROOT), *ours]) == 0
    # What a build leaves for the next one goes by the program's own files, and the manifest lists it.
    left = {"manifest.json", ".build-state.json"}
    built = [
        {path: text for path, text in tree(tmp_path / side).items() if path not in left}
        for side in ("ours", "theirs")
    ]
    assert built[0] == built[1] and len(built[0]) > 10


def test_a_site_brings_its_own_pipelines(installed: Installed, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pipelines", tmp_path / "mine")
    changed = 0
    for pipeline in (tmp_path / "mine").glob("*/elastic.yml"):
        text = pipeline.read_text(encoding="utf-8")
        changed += "logs-o365.audit-*" in text
        pipeline.write_text(text.replace("logs-o365.audit-*", "mail-*"), encoding="utf-8")
    assert changed > 1
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "probe.yml").write_text(RULE, encoding="utf-8")
    for arguments in (("--rules", "rules"), ()):
        said = installed.run(tmp_path, "build", *arguments, "--pipelines", "mine", "--out", "out")
        assert said.returncode == 0, said.stderr
        rules = (tmp_path / "out" / "elastic" / "rules.ndjson").read_text(encoding="utf-8")
        assert '"mail-*"' in rules and "logs-o365" not in rules


@pytest.mark.parametrize(
    "arguments",
    [("build",), ("build", "--pipelines", "pipelines"), ("new", "probe", "--logsource", "product=m365")],
)
def test_the_installed_pack_is_not_written_to(
    installed: Installed, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    before = tree(installed.site / "detection_pack" / "_pack")
    said = installed.run(tmp_path, *arguments)
    assert said.returncode == 2 and len(said.stderr.splitlines()) == 1, said.stdout + said.stderr
    assert tree(installed.site / "detection_pack" / "_pack") == before
    assert list(tmp_path.iterdir()) == []


def test_a_release_is_made_of_the_packaged_documents(installed: Installed, tmp_path: Path) -> None:
    said = installed.run(tmp_path, "build", "--package", "release")
    assert said.returncode == 0, said.stderr
    assert main(["--root", str(ROOT), "build", "--package", str(tmp_path / "ours")]) == 0
    assert tree(tmp_path / "release") == tree(tmp_path / "ours")

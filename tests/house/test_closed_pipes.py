"""The trap: `detection-pack replay | head -1` that ends in a traceback.

Python finds out that nobody reads any more when it writes, or, with a buffer, not before it ends: after the
last line of the program. Either way the command says nothing, and its exit code is that of a program that
SIGPIPE ends: with 0 a pipeline would go on as if nothing had been found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from support.checkout import copy_of_the_pack, core_alone

RULE = """title: Probe
logsource: {product: m365, service: exchange}
detection: {s: {Operation: Set-Mailbox}, condition: s}
"""
REPLAY = ["replay", "--platform", "sentinel", "--rule", "exchange_admin_cmdlet", "--format", "json"]
BUILD = ["build", "--rules", "rules", "--out", "out"]
VALIDATE = ["validate", "--format", "json", "--no-replay", "rules"]
DIFF = ["diff", "HEAD"]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack with a history, and a folder of rules in it."""
    root = core_alone(copy_of_the_pack(tmp_path_factory.mktemp("pack")))
    (root / "rules").mkdir()
    (root / "rules" / "probe.yml").write_text(RULE, encoding="utf-8")
    shutil.copy(ROOT / "CHANGELOG.md", root)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "a")):
        subprocess.run([*git, *command], cwd=root, check=True)
    return root


def run(folder: Path, arguments: list[str], buffered: bool, findings_too: bool = False) -> tuple[int, str]:
    """Exit code and standard error of a command whose output goes to a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    environment.pop("PYTHONUNBUFFERED", None)
    if not buffered:
        environment["PYTHONUNBUFFERED"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "detection_pack.cli", *arguments],
            cwd=folder,
            env=environment,
            stdout=writer,
            stderr=writer if findings_too else subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    ("arguments", "buffered"),
    [(REPLAY, True), (REPLAY, False), (BUILD, True), (BUILD, False), (VALIDATE, True), (DIFF, True)],
)
def test_nobody_reads_the_output(pack: Path, arguments: list[str], buffered: bool) -> None:
    assert run(pack, arguments, buffered) == (141, "")


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_nobody_reads_what_the_parser_prints(pack: Path, option: str, buffered: bool) -> None:
    """Without a buffer argparse passes over what it cannot write."""
    code, said = run(pack, [option], buffered)
    assert code in ((141,) if buffered else (0, 141)) and said == ""


@pytest.mark.parametrize(
    "arguments", [["validate", "no-such-file"], ["build", "--rules", "rules"]], ids=" ".join
)
def test_nobody_reads_the_findings(pack: Path, arguments: list[str]) -> None:
    assert run(pack, arguments, buffered=True, findings_too=True)[0] == 141


def test_head_takes_its_line(pack: Path) -> None:
    command = f"'{sys.executable}' -m detection_pack.cli replay --platform sentinel --format json | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=pack, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")

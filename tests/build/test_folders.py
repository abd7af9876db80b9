"""The trap: a build that ends with exit code 0 and half its files, or in the middle, and takes the old folder
with it.

A disk fills, a process is killed between two steps, two builds write one folder. After each of these the
folder is the old one or the new one, every byte of it, and the next build leaves nothing beside it.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.build import folders
from detection_pack.build.folders import FRESH, OLD, Folder, replace_folders
from detection_pack.model.findings import PackError

SIGNATURE = "made by a test"


def folder(path: Path, word: str, files: int = 6, size: int = 3000) -> Folder:
    """A folder whose every byte depends on ``word``."""
    made = {f"part{n % 3}/{n}.txt": f"{SIGNATURE} {word} {n}\n".encode() * (size // 20) for n in range(files)}
    return Folder(path, made | {"mark": f"{SIGNATURE} {word}".encode()}, "mark", SIGNATURE)


def content(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def beside(path: Path) -> set[str]:
    return {p.name for p in path.parent.iterdir()} - {path.name}


@pytest.fixture(params=["exchanged", "renamed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to give a folder its name, on a system that has the first."""
    if request.param == "renamed":
        monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    elif sys.platform != "linux":
        pytest.skip("names can be exchanged in one step on Linux alone")
    return str(request.param)


def test_a_folder_is_replaced_whole_and_nothing_is_left(way: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for word in ("old", "new", "new"):
        replace_folders([folder(out, word)])
        assert content(out) == folder(out, word).files and beside(out) == set()
    assert {p.stat().st_mode & 0o777 for p in out.rglob("*") if p.is_file()} == {0o644}


def test_names_are_exchanged_here(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("renameat2 is Linux's")
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "a").touch()
    assert folders._exchanged(one, other)
    assert (other / "a").exists() and not (one / "a").exists()


# --- every call that writes fails in turn --------------------------------------------------------------


class Faults:
    """A file layer whose ``at``-th call fails; ``short``: whose writes take one byte of a thousand from then
    on, and whose disk is full in the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, short: bool = False) -> None:
        self.calls, self.at, self.short = 0, at, short
        for name in ("open", "write", "fsync", "mkdir", "rename"):
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        monkeypatch.setattr(folders, "_exchanged", self.wrapped("exchange", folders._exchanged))

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **more: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **more)
            self.calls += 1
            if self.calls == self.at and not self.short:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if name == "write" and self.short and self.calls >= self.at:
                if self.calls > self.at + 5:
                    return 0
                return call(arguments[0], arguments[1][: max(1, len(arguments[1]) // 1000)])
            return call(*arguments, **more)

        return wrapper


def moments(tmp_path: Path) -> int:
    """How many calls one replacement of two folders makes."""
    with pytest.MonkeyPatch.context() as patch:
        two = [folder(tmp_path / "count" / name, "old") for name in ("a", "b")]
        replace_folders(two)
        faults = Faults(patch, -1)
        replace_folders([folder(one.path, "new") for one in two])
        return faults.calls


@pytest.mark.parametrize("short", [False, True], ids=["refused", "short"])
def test_a_fault_at_any_moment_leaves_the_old_folders(way: str, short: bool, tmp_path: Path) -> None:
    total = moments(tmp_path)
    assert total > 40
    failed = 0
    for at in range(1, total + 1):
        root = tmp_path / f"{at}"
        outs = [root / "a", root / "b"]
        replace_folders([folder(out, "old") for out in outs])
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, at, short)
            try:
                replace_folders([folder(out, "new") for out in outs])
                word = "new"
            except PackError as error:
                assert "cannot be written" in str(error) and "\n" not in str(error)
                word, failed = "old", failed + 1
        for out in outs:
            assert content(out) == folder(out, word).files
        assert beside(outs[0]) == {"b"}
    assert failed > total * 0.7


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda target, data: write(target, data[: len(data) // 2 + 1]))
    replace_folders([folder(tmp_path / "out", "new")])
    assert content(tmp_path / "out") == folder(tmp_path / "out", "new").files


def test_a_length_that_is_not_what_was_written_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def lying(target: int, data: Any) -> int:
        write(target, data[:10])
        return len(data)

    monkeypatch.setattr(os, "write", lying)
    with pytest.raises(PackError, match="cannot be written"):
        replace_folders([folder(tmp_path / "out", "new")])
    assert not (tmp_path / "out").exists() and beside(tmp_path / "out") == set()


# --- killed --------------------------------------------------------------------------------------------

REPLACES = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from detection_pack.build import folders
import test_folders
if {renamed}:
    folders._exchanged = lambda one, other: False
print("ready", flush=True)
out = Path(sys.argv[1])
while True:
    for word in ("new", "old"):
        folders.replace_folders([test_folders.folder(out, word)])
"""


def replacing(out: Path, renamed: bool) -> subprocess.Popen[bytes]:
    paths = [str(path) for path in (Path(__file__).parent, ROOT / "tests", ROOT / "scripts")]
    text = REPLACES.format(paths=paths, renamed=renamed)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), str(out)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("ends", ["SIGKILL", "SIGTERM", "SIGINT"])
@pytest.mark.parametrize("renamed", [False, True], ids=["exchanged", "renamed"])
@pytest.mark.parametrize("times", [20, pytest.param(70, marks=pytest.mark.campaign)])
def test_ended_at_any_moment_the_folder_is_whole_or_comes_back(
    times: int, renamed: bool, ends: str, tmp_path: Path
) -> None:
    """Without an exchange the folder may be away until the next build, and never for longer; an interrupt
    puts things in order itself."""
    if not renamed and sys.platform != "linux":
        pytest.skip("names can be exchanged in one step on Linux alone")
    out = tmp_path / "out"
    replace_folders([folder(out, "old")])
    words = {word: folder(out, word).files for word in ("old", "new")}
    chance = random.Random(7)
    number = signal.Signals[ends]
    for _ in range(times):
        ready, began = os.pipe()
        child = os.fork()
        if child == 0:
            _replace_for_ever(out, renamed, began)
        os.close(began)
        assert os.read(ready, 1) == b"1"
        os.close(ready)
        time.sleep(chance.random() * 0.05)
        os.kill(child, number)
        status = os.waitpid(child, 0)[1]
        raised = out.with_name("raised")
        assert not raised.exists(), raised.read_text(encoding="utf-8")
        if number == signal.SIGINT:
            assert os.WEXITSTATUS(status) == 130
            assert out.exists()
        else:
            assert os.WTERMSIG(status) == number
        if renamed:
            folders._recover(out)
        assert content(out) in words.values()
    replace_folders([folder(out, "last")])
    assert content(out) == folder(out, "last").files and beside(out) == set()


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_a_folder_is_removed_is_no_fault_of_the_disk(
    ending: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`shutil.rmtree` closes a descriptor twice where an interrupt comes right after the first time."""
    replace_folders([folder(tmp_path / "out", "old")])
    close, interrupted = os.close, False

    def closing(descriptor: int) -> None:
        nonlocal interrupted
        close(descriptor)
        if not interrupted and sys._getframe(1).f_code.co_filename == shutil.__file__:
            interrupted = True
            raise ending

    monkeypatch.setattr(os, "close", closing)
    with pytest.raises(ending):
        replace_folders([folder(tmp_path / "out", "new")])
    monkeypatch.undo()
    assert interrupted and content(tmp_path / "out") == folder(tmp_path / "out", "new").files
    replace_folders([folder(tmp_path / "out", "last")])
    assert beside(tmp_path / "out") == set()


def _replace_for_ever(out: Path, renamed: bool, began: int) -> None:
    if renamed:
        folders._exchanged = lambda one, other: False
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.write(began, b"1")
        while True:
            for word in ("new", "old"):
                replace_folders([folder(out, word)])
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        out.with_name("raised").write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("renamed", [False, True], ids=["exchanged", "renamed"])
def test_killed_before_each_step_the_folder_is_whole_or_comes_back(renamed: bool, tmp_path: Path) -> None:
    """Not at random: before each call that changes anything, one after the other."""
    if not renamed and sys.platform != "linux":
        pytest.skip("names can be exchanged in one step on Linux alone")
    killed, away = 0, 0
    for at in range(1, 200):
        out = tmp_path / f"{at}" / "out"
        replace_folders([folder(out, "old", 9)])
        child = os.fork()
        if child == 0:
            _replace_and_die(out, at, renamed)
        if os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 0:
            break
        killed += 1
        away += not out.exists()
        assert renamed or out.exists()
        if out.exists():
            assert content(out) in (folder(out, "old", 9).files, folder(out, "new", 9).files)
        # The next build, which finds nothing to change, puts everything in order.
        replace_folders([folder(out, "old", 9)])
        assert content(out) == folder(out, "old", 9).files and beside(out) == set()
    assert killed >= 50
    assert bool(away) == renamed


def _replace_and_die(out: Path, at: int, renamed: bool) -> None:
    count = 0

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                os._exit(9)
            return call(*arguments, **more)

        return wrapper

    for name in ("open", "write", "fsync", "mkdir", "rename", "rmdir", "unlink"):
        setattr(os, name, wrapped(getattr(os, name)))
    folders._exchanged = (lambda one, other: False) if renamed else wrapped(folders._exchanged)
    try:
        replace_folders([folder(out, "new", 9)])
    finally:
        os._exit(0 if count < at else 9)


def test_what_was_moved_aside_comes_back_and_what_is_left_goes(tmp_path: Path) -> None:
    out = tmp_path / "o*ut"
    replace_folders([folder(out, "old")])
    out.rename(tmp_path / f".o*ut.{OLD}-1")
    shutil.copytree(tmp_path / f".o*ut.{OLD}-1", tmp_path / f".o*ut.{FRESH}-2")
    others = tmp_path / f".out.{FRESH}-3"
    others.mkdir()
    before = (tmp_path / f".o*ut.{OLD}-1").stat().st_ino
    replace_folders([folder(out, "old")])
    # It is the old folder itself: nothing had to be written.
    assert out.stat().st_ino == before
    assert beside(out) == {others.name}


# --- two at once ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock on Windows")
@pytest.mark.parametrize("renamed", [False, True], ids=["exchanged", "renamed"])
def test_two_builds_into_one_folder_wait_for_each_other(renamed: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    replace_folders([folder(out, "old")])
    words = {word: folder(out, word).files for word in ("old", "new")}
    running = [replacing(out, renamed) for _ in range(2)]
    time.sleep(2)
    ended = [process.poll() for process in running]
    for process in running:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert ended == [None, None]
    folders._recover(out)
    assert content(out) in words.values() and beside(out) == set()


# --- the command ---------------------------------------------------------------------------------------


def test_the_command_at_a_limit_says_so_and_keeps_the_old_folder(tmp_path: Path) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed")
    out = tmp_path / "out"
    rules = tmp_path / "rules"
    shutil.copytree(ROOT / "sigma" / "core", rules)
    command = [sys.executable, "-m", "detection_pack.cli", "build", "--jobs", "1"]
    command += ["--rules", str(rules), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)

    assert run(*command).returncode == 0
    before = content(out)
    next(rules.glob("*.yml")).unlink()
    done = run("prlimit", "--fsize=2048", *command)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "cannot be written" in done.stderr
    assert content(out) == before and beside(out) == {"rules"}

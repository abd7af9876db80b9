"""One command, run in process as a user would run it, and everything that it must not do.

The real `detection_pack.cli.main` runs under an alarm, with standard output and standard error as strict
UTF-8 and backslash-escaped streams, which is what a terminal gives it. Then the folder is looked at: what was
written, where, and whether the output folder is whole. Python's audit events tell what the command did beyond
the folder: a file opened for writing, a program started, a connection made.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack import cli
from detection_pack.build.dist import GENERATOR, MANIFEST
from detection_pack.languages.kept import FOLDER

LIMIT = 5.0
#: Below a line of a file, the place that a finding is about.
CARETS = re.compile(r" +\^+")
#: A finding, or how many records a replay has skipped.
ONE_LINE = re.compile(r"^(?:\S.*:\d+: .+; .+|skipped: \d+ records? in all(?:, the first \d+ named above)?)$")
#: What a replay says of the log that it has read.
READ = re.compile(r"(read|repeated|other kinds|skipped): .+")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
}
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}


class Hang(BaseException):
    """The alarm. Not an `Exception`, which the command line would turn into a message."""


@dataclass(frozen=True)
class Command:
    """Arguments of `detection-pack`, and which of a group's inputs they read.

    ``out`` is the one folder that may change, to a whole build, with an exit code of ``whole``; with exit
    code 0 it must be one.
    """

    argv: tuple[str, ...]
    inputs: tuple[int, ...]
    codes: tuple[int, ...] = (0, 1, 2)
    out: Path | None = None
    whole: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fault:
    """What a command did wrong. ``kind`` is one of the headings of the report."""

    kind: str
    detail: str

    @property
    def signature(self) -> str:
        """The same for the same mistake on another input, as far as the text tells."""
        return f"{self.kind}: {re.sub(r'[0-9]+|[^ -~]', '#', self.detail)[:60]}"


@dataclass(frozen=True)
class Outcome:
    code: int | None
    seconds: float
    out: str
    err: str
    faults: tuple[Fault, ...]


class Sandbox:
    """A folder with everything a command may touch. Use it as a context manager."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.limit = limit
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
        self.inputs = self.folder / "in"
        self.out = self.folder / "out"
        for name in ("in", "out", "cwd", "tmp"):
            (self.folder / name).mkdir()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Empty the folder of inputs. What a former build left in ``out`` stays: the next must replace it."""
        shutil.rmtree(self.inputs)
        self.inputs.mkdir()

    def run(self, command: Command) -> Outcome:
        """Run a command and judge it."""
        before, held = self._tree(command.out), _contents(command.out)
        stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", "\n", write_through=True)
        stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", "\n", write_through=True)
        faults: list[Fault] = []
        code: int | None = None
        start = time.monotonic()
        with self._watched(faults):
            try:
                with redirect_stdout(stdout), redirect_stderr(stderr), alarm(self.limit):
                    code = cli.main(list(command.argv))
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else None
            except Hang:
                faults.append(Fault("hang", f"ran for more than {self.limit:g} s\n{traceback.format_exc()}"))
            except BaseException:
                faults.append(Fault("traceback", traceback.format_exc()))
        seconds = time.monotonic() - start
        out, err = _text(stdout), _text(stderr)
        if not faults:
            faults += _said(command, code, out, err)
        faults += self._left(command, code, before, held)
        return Outcome(code, seconds, out, err, tuple(faults))

    def _left(
        self, command: Command, code: int | None, before: dict[str, Any], held: dict[str, str] | None
    ) -> Iterator[Fault]:
        after = self._tree(command.out)
        for path in sorted({*before, *after}):
            if before.get(path) != after.get(path):
                what = "left" if path not in before else "removed" if path not in after else "changed"
                yield Fault("stray file", f"{what} {path}")
        if command.out is None or ((now := _contents(command.out)) == held and code != 0):
            return
        if now != held and code not in command.whole:
            yield Fault("partial output", f"exit code {code}, and the output folder is not as it was")
        elif (lack := _incomplete(command.out, now)) is not None:
            yield Fault("partial output", f"exit code {code}, and {lack}")

    def _tree(self, out: Path | None) -> dict[str, Any]:
        """Every file and folder but the output's, with what would show a change."""
        found: dict[str, Any] = {}
        stack = [self.folder]
        while stack:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    if out is not None and entry.path == str(out):
                        continue
                    state = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        found[os.path.relpath(entry.path, self.folder)] = "folder"
                        stack.append(Path(entry.path))
                    else:
                        found[os.path.relpath(entry.path, self.folder)] = (state.st_size, state.st_mtime_ns)
        return found

    @contextmanager
    def _watched(self, faults: list[Fault]) -> Iterator[None]:
        """Working and temporary folder inside the sandbox, nothing kept for the next run, and audit events
        looked at."""
        cwd, temporary, keeps = Path.cwd(), tempfile.tempdir, os.environ.get(FOLDER)
        os.environ[FOLDER] = ""
        os.chdir(self.folder / "cwd")
        tempfile.tempdir = str(self.folder / "tmp")
        _Audit.install()
        _Audit.folder, _Audit.seen = str(self.folder), []
        try:
            yield
        finally:
            seen, _Audit.folder = _Audit.seen, None
            tempfile.tempdir = temporary
            os.environ[FOLDER] = keeps or ""
            if keeps is None:
                del os.environ[FOLDER]
            os.chdir(cwd)
            faults += [Fault("escape", what) for what in dict.fromkeys(seen)]


class _Audit:
    """Python's audit events, while a command runs. A hook cannot be removed, so it is added once."""

    folder: str | None = None
    seen: list[str] = []  # noqa: RUF012 - the hook is one for the process, and so is its list
    installed = False

    @classmethod
    def install(cls) -> None:
        if not cls.installed:
            cls.installed = True
            sys.addaudithook(cls.hook)

    @classmethod
    def hook(cls, event: str, arguments: tuple[Any, ...]) -> None:
        if cls.folder is None:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                cls.written(event, path)
        elif event in _CHANGES:
            # shutil.rmtree names entries relative to a folder that it holds open.
            path = arguments[0]
            if isinstance(path, str | bytes) and Path(os.fsdecode(path)).is_absolute():
                cls.written(event, path)
        elif event in _PROGRAMS:
            cls.seen.append(f"{event} {arguments[0]!r}")
        elif event in ("socket.connect", "socket.getaddrinfo"):
            host = arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]
            if host not in ("127.0.0.1", "::1", "localhost"):
                cls.seen.append(f"{event} {host}")

    @classmethod
    def written(cls, event: str, path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link is not followed
            if absolute != os.devnull and not absolute.startswith(f"{cls.folder}{os.sep}"):
                cls.seen.append(f"{event} {absolute}")


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `Hang` after so many seconds of the processor, or five times as many by the clock: others may be
    at work on the machine. Code in C that looks for no signals is the campaign's to end."""

    def ring(*_: object) -> None:
        raise Hang

    timers = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, 5 * seconds),
    }
    former = {number: signal.signal(number, ring) for number, _ in timers.values()}
    for timer, (_, limit) in timers.items():
        # Again every second: an alarm that rings in a destructor is swallowed there.
        signal.setitimer(timer, limit, 1.0)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in former.items():
            signal.signal(number, handler)


def _said(command: Command, code: int | None, out: str, err: str) -> Iterator[Fault]:
    if code not in command.codes:
        yield Fault("exit code", f"{code}, not one of {command.codes}: {err[-300:]}")
    if "internal error" in err:
        yield Fault("internal error", next(line for line in err.split("\n") if "internal error" in line))
    if "Traceback (most recent call last)" in out + err:
        yield Fault("traceback", err[-2000:])
    lines = err.removesuffix("\n").split("\n") if err else []
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        # A line of a file, with carets below it.
        shown = CARETS.fullmatch(line) or (line.startswith("  ") and CARETS.fullmatch(following))
        if not ((ONE_LINE.match(line) or READ.match(line) or shown) and line.isprintable()):
            yield Fault("error line", repr(line[:300]))
            break
    for line in out.split("\n"):
        if not all(c.isprintable() or c == "\t" for c in line):
            yield Fault("output line", repr(line[:300]))
            break
    if code not in (0, None) and not err and not out:
        yield Fault("silence", f"exit code {code}, and not a word why")


def _incomplete(out: Path, now: dict[str, str] | None) -> str | None:
    """What a folder lacks of a build: its files are exactly those of its manifest, with the right digests."""
    if now is None or MANIFEST not in now:
        return "the output folder holds no manifest"
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    if manifest.get("generator") != GENERATOR:
        return "the manifest is not the pack's"
    artefacts = [*manifest["artefacts"], *(a for rule in manifest["rules"] for a in rule["artefacts"])]
    listed = {artefact["path"]: artefact["sha256"] for artefact in artefacts}
    found = {path: digest for path, digest in now.items() if path != MANIFEST}
    wrong = sorted(path for path in {*listed, *found} if listed.get(path) != found.get(path))
    if wrong or len(listed) != len(artefacts):
        return f"the manifest and the files differ: {wrong[:5]}"
    return None


def _contents(folder: Path | None) -> dict[str, str] | None:
    """Relative path -> SHA-256 of every file below a folder; None where there is no folder."""
    if folder is None or not folder.is_dir():
        return None
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8", "backslashreplace")


def explained(argv: Sequence[str]) -> str:
    """The traceback behind an "internal error": the same command without the net that `cli.main` spreads."""
    arguments = cli._parser().parse_args(list(argv))
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            arguments.run(arguments)
        except SystemExit:
            pass
        except BaseException:
            return traceback.format_exc()
    return ""

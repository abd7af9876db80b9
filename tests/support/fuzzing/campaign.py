"""Many cases in worker processes, with somebody who watches them.

A worker says on its standard output which cases it is about to run, then what came of them. One that is
silent for too long hangs where no alarm reaches it: it is ended, and the cases that it named are to blame.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from support.fuzzing import targets
from support.fuzzing.sandbox import Command, Fault, Outcome, Sandbox, explained
from support.fuzzing.targets import Input

#: How long a worker may say nothing: a command's limit, a second try, and a busy machine.
SILENCE = 60.0
#: How long a worker may take to end by itself.
FAREWELL = 5.0
#: Address space of a worker, in bytes.
MEMORY = 6 * 1024**3


@dataclass(frozen=True)
class Failure:
    """A fault and the cases that bring it about: one, or a group that fails together only."""

    cases: tuple[int, ...]
    target: str
    argv: tuple[str, ...]
    fault: Fault


@dataclass
class Tally:
    """What a campaign has seen."""

    cases: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str, tuple[int, ...]] = (0.0, "", ())
    seconds: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)


# ---- one group -----------------------------------------------------------------------------------------


def run_inputs(
    sandbox: Sandbox, target: targets.Target, inputs: Sequence[Input]
) -> list[tuple[Command, Outcome]]:
    """Run the commands of one group and clean up."""
    try:
        return [(command, sandbox.run(command)) for command in target.commands(sandbox, inputs)]
    finally:
        targets.tidy(sandbox)


def run_group(sandbox: Sandbox, seed: int, cases: Sequence[int], say: Callable[[Any], None]) -> None:
    """Run a group; one that fails is run again, a case at a time, to find which it is.

    A case that takes too long is slow if it is slow twice: the machine may have been busy.
    """
    target = targets.target_of(cases[0])
    inputs = [targets.input_of(seed, case) for case in cases]
    say({"running": list(cases)})
    done = run_inputs(sandbox, target, inputs)
    say({"done": _told(target, cases, done)})
    suspects = {i for command, outcome in done if outcome.faults for i in command.inputs}
    if not suspects:
        return
    found = False
    for index in sorted(suspects):
        say({"running": [cases[index]]})
        for command, outcome in run_inputs(sandbox, target, [inputs[index]]):
            for fault in outcome.faults:
                found = True
                say({"failed": _failure(target, [cases[index]], command, fault)})
    if not found:
        if any(fault.kind == "hang" for _, outcome in done for fault in outcome.faults):
            say({"running": list(cases)})
            done = run_inputs(sandbox, target, inputs)
        for command, outcome in done:
            for fault in outcome.faults:
                named = [cases[i] for i in command.inputs]
                say({"failed": _failure(target, named, command, fault)})


def _told(
    target: targets.Target, cases: Sequence[int], done: Sequence[tuple[Command, Outcome]]
) -> dict[str, Any]:
    runs = [[o.code, o.seconds, [cases[i] for i in c.inputs]] for c, o in done]
    return {"target": target.name, "cases": len(cases), "runs": runs}


def _failure(target: targets.Target, cases: Sequence[int], command: Command, fault: Fault) -> dict[str, Any]:
    return {
        "cases": list(cases),
        "target": target.name,
        "argv": list(command.argv),
        "kind": fault.kind,
        "detail": fault.detail,
    }


def work(seed: int, limit: float) -> None:
    """A worker: one group a line of standard input, until there is no more."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a command writes past Python must not be taken for an answer

    def say(message: Any) -> None:
        told.write(json.dumps(message) + "\n")
        told.flush()

    # What explodes ends in a MemoryError here, which is reported, and not with the machine.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    warm_up()
    with Sandbox(limit) as sandbox:
        targets.small_pack(sandbox)
        say({"ready": True})
        for line in sys.stdin:
            run_group(sandbox, seed, json.loads(line), say)
            say({"next": True})


def warm_up() -> None:
    """Load the engines, which commands do once a process: no case pays for it."""
    from detection_pack.platforms.elastic import run  # noqa: F401
    from detection_pack.replay import verdict  # noqa: F401


# ---- many groups ---------------------------------------------------------------------------------------


class _Worker:
    """A worker process and a thread that reads what it says."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.said.put(line)
        self.said.put(None)

    def ask(self, cases: Sequence[int]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(list(cases)) + "\n")
        self.process.stdin.flush()

    def answers(self, silence: float) -> Iterator[dict[str, Any]]:
        """What it says until it wants more. Raises `TimeoutError` if it is silent, `EOFError` if it ends."""
        while True:
            try:
                line = self.said.get(timeout=silence)
            except queue.Empty:
                raise TimeoutError from None
            if line is None:
                raise EOFError
            message = json.loads(line)
            if "next" in message or "ready" in message:
                return
            yield message

    def end(self) -> None:
        # One that has nothing more to do ends by itself, and takes its sandbox away.
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.stdin.close()
            self.process.wait(FAREWELL)
        # The search server that the worker started is in its session, and goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Campaign:
    """Cases of one seed, over ``jobs`` worker processes started by ``command``."""

    def __init__(self, command: Sequence[str], jobs: int, silence: float = SILENCE) -> None:
        self.command = command
        self.jobs = jobs
        self.silence = silence
        self.tally = Tally()
        self._lock = threading.Lock()

    def run(self, groups: Sequence[Sequence[int]]) -> Tally:
        """Run every group, in any order, and wait for all of them."""
        todo: queue.SimpleQueue[Sequence[int]] = queue.SimpleQueue()
        for group in groups:
            todo.put(group)
        threads = [threading.Thread(target=self._serve, args=(todo,)) for _ in range(self.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.tally.failures.sort(key=lambda failure: (failure.fault.kind, failure.cases))
        return self.tally

    def _serve(self, todo: queue.SimpleQueue[Sequence[int]]) -> None:
        worker: _Worker | None = None
        try:
            while True:
                try:
                    group = todo.get_nowait()
                except queue.Empty:
                    return
                if worker is None:
                    worker = _Worker(self.command)
                    for _ in worker.answers(self.silence * 2):
                        pass
                if not self._asked(worker, group, todo):
                    worker.end()
                    worker = None
        finally:
            if worker is not None:
                worker.end()

    def _asked(self, worker: _Worker, group: Sequence[int], todo: queue.SimpleQueue[Sequence[int]]) -> bool:
        """Whether the worker lives after this group."""
        running: list[int] = list(group)
        try:
            worker.ask(group)
            for message in worker.answers(self.silence):
                running = message.get("running", running)
                self._count(message)
        except (TimeoutError, EOFError, BrokenPipeError) as error:
            if len(running) > 1:
                for case in running:
                    todo.put([case])
                return False
            kind = "hang" if isinstance(error, TimeoutError) else "death"
            what = "silent past every alarm" if kind == "hang" else "the process ended"
            target = targets.target_of(running[0]).name
            with self._lock:
                self.tally.failures.append(Failure(tuple(running), target, (), Fault(kind, what)))
            return False
        return True

    def _count(self, message: dict[str, Any]) -> None:
        with self._lock:
            if (done := message.get("done")) is not None:
                self.tally.cases[done["target"]] += done["cases"]
                for code, seconds, cases in done["runs"]:
                    self.tally.codes[f"{done['target']} {code}"] += 1
                    self.tally.seconds[done["target"]] += seconds
                    self.tally.slowest = max(self.tally.slowest, (seconds, done["target"], tuple(cases)))
            if (failed := message.get("failed")) is not None:
                fault = Fault(failed["kind"], failed["detail"])
                self.tally.failures.append(
                    Failure(tuple(failed["cases"]), failed["target"], tuple(failed["argv"]), fault)
                )


# ---- one failure, smaller ------------------------------------------------------------------------------


def shrunk(
    sandbox: Sandbox, target: targets.Target, given: Input, fault: Fault, seconds: float = 20.0
) -> Input:
    """The smallest input that was found, in the time given, to bring about the same fault: lines are left
    out, then characters."""
    best = given
    until = time.monotonic() + seconds

    def same(data: bytes) -> bool:
        outcomes = run_inputs(sandbox, target, [Input(given.name, data, given.variant)])
        return any(f.signature == fault.signature for _, outcome in outcomes for f in outcome.faults)

    for separator in (b"\n", b""):
        pieces = best.data.split(separator) if separator else [bytes([b]) for b in best.data]
        size = max(len(pieces) // 2, 1)
        while size and time.monotonic() < until:
            start = 0
            while start < len(pieces) and time.monotonic() < until:
                fewer = pieces[:start] + pieces[start + size :]
                if fewer and same(separator.join(fewer)):
                    pieces = fewer
                else:
                    start += size
            size //= 2
        best = Input(given.name, separator.join(pieces), given.variant)
    return best


def written(folder: Path, seed: int, failure: Failure, given: Input, smaller: Input | None) -> list[Path]:
    """A failure as files: the input, a smaller one, and what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{seed}-{failure.cases[0]}"
    files = {
        f"{stem}.input": given.data,
        f"{stem}.txt": described(seed, failure).encode("utf-8", "backslashreplace"),
    }
    if smaller is not None:
        files[f"{stem}.small"] = smaller.data
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def described(seed: int, failure: Failure) -> str:
    """A failure for people, with what is behind an internal error."""
    cases = ", ".join(map(str, failure.cases))
    text = f"case {cases} of seed {seed}, {failure.target}: {failure.fault.kind}: {failure.fault.detail}\n"
    return text + f"  detection-pack {' '.join(failure.argv)}\n"


def cause(sandbox: Sandbox, target: targets.Target, given: Input) -> str:
    """The traceback behind the internal error of a case, if there is one."""
    try:
        return "\n".join(explained(command.argv) for command in target.commands(sandbox, [given]))
    finally:
        targets.tidy(sandbox)


def summary(tally: Tally, seconds: float) -> str:
    """What a campaign did, a line a target."""
    total = sum(tally.cases.values())
    lines = []
    for name, count in sorted(tally.cases.items(), key=lambda item: -item[1]):
        codes = {
            k.removeprefix(f"{name} "): n for k, n in sorted(tally.codes.items()) if k.startswith(f"{name} ")
        }
        shown = ", ".join(f"{n} x exit {code}" for code, n in codes.items())
        lines.append(f"{name:28} {count:6} cases  {tally.seconds[name]:7.1f} s  commands: {shown}")
    took, name, cases = tally.slowest
    lines.append(f"slowest command: {took:.2f} s, {name}, cases {cases[0] if cases else '-'}…")
    rate = total / max(seconds, 0.001)
    lines.append(f"{total} cases, {seconds:.0f} s, {rate:.0f} cases/s, {len(tally.failures)} failures")
    return "\n".join(lines)

"""What is fuzzed: for each kind of input how it is made, and which commands read it.

A row of `TARGETS` is a target. Cases come in cycles of the rows' shares, in groups that one command may read
together: starting the engines and loading the pipelines once a group is what makes 20,000 cases affordable.
A group that fails is run again, case by case.
"""

from __future__ import annotations

import copy
import io
import os
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from detection_pack import cli
from detection_pack.model.findings import PackError
from detection_pack.replay.reading import read
from support.fuzzing import seeds
from support.fuzzing.mutation import TOKENS, as_yaml, spoil_bytes, spoil_tree
from support.fuzzing.sandbox import Command, Sandbox, alarm
from support.fuzzing.seeds import ROOT
from support.sources import SOURCES


@dataclass(frozen=True)
class Input:
    """A mutated file. ``variant`` picks among the commands of its target."""

    name: str
    data: bytes
    variant: int


@dataclass(frozen=True)
class Target:
    """A row: ``share`` cases of every cycle, ``batch`` of them a group, an input's maker and its commands.

    ``commands`` places the inputs in the sandbox and says what to run on them.
    """

    name: str
    share: int
    batch: int
    make: Callable[[Random, int], Input]
    commands: Callable[[Sandbox, Sequence[Input]], list[Command]]


# ---- making inputs -------------------------------------------------------------------------------------


def _yaml_input(
    rng: Random, listed: tuple[seeds.Seed, ...], trees: Sequence[list[Any]], name: str | None
) -> Input:
    """Two of three cases change the tree, the others the text, and a few both."""
    index = rng.randrange(len(listed))
    tree = copy.deepcopy(trees[index] if rng.random() < 0.7 else listed[index].trees)
    donors = [document for documents in trees for document in documents]
    level = rng.random()
    if level < 0.7:
        for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
            document = rng.randrange(len(tree))
            tree[document] = spoil_tree(rng, tree[document], donors)
    try:
        data = as_yaml(rng, tree) if level < 0.7 or rng.random() < 0.5 else listed[index].data
    except (yaml.YAMLError, RecursionError, ValueError):  # deeper than the writer goes
        data = listed[index].data
    if level > 0.65:
        texts = [seed.data for seed in listed]
        for _ in range(rng.choice([1, 1, 2, 4])):
            data = spoil_bytes(rng, data, texts)
    return Input(name or listed[index].name, data, rng.randrange(1000))


@cache
def _short(listed: tuple[seeds.Seed, ...], longest: int) -> list[list[Any]]:
    return [[seeds.shortened(document, longest) for document in seed.trees] for seed in listed]


@cache
def _kept(listed: tuple[seeds.Seed, ...]) -> tuple[seeds.Seed, ...]:
    return tuple(seed for seed in listed if seed.path.stem in _KEPT)


def _rule(rng: Random, case: int) -> Input:
    made = _yaml_input(rng, seeds.rules(), _short(seeds.rules(), 3), None)
    # Rules of one folder may not share an id.
    data = made.data
    for number, stated in enumerate(_ids()):
        data = data.replace(stated, str(uuid.UUID(int=case * 100 + number)).encode())
    name = f"rule_{case}.yml"
    if rng.random() < 0.05:
        odd = "".join(rng.choice([*TOKENS, "a", "é", "A", ".."]) for _ in range(rng.randint(1, 4)))
        # Half of a surrogate pair cannot be in a name; a byte that is no UTF-8 can.
        name = re.sub(r"[/\0]", "_", odd.replace("\ud800", "\udcff"))[:60] + f"{case}.yml"
    return Input(name, data, made.variant)


@cache
def _ids() -> list[bytes]:
    return [str(document["id"]).encode() for seed in seeds.rules() for document in seed.trees]


def _pack_rule(rng: Random, _: int) -> Input:
    listed = _kept(seeds.rules())
    return _yaml_input(rng, listed, _short(listed, 3), None)


def _pipeline(rng: Random, _: int) -> Input:
    return _yaml_input(rng, seeds.pipelines(), _small_pipelines(), None)


def _events(rng: Random, _: int) -> Input:
    listed = _kept(seeds.events_files())
    return _yaml_input(rng, listed, _short(listed, 2), None)


def _log(rng: Random, case: int) -> Input:
    log = seeds.log(rng, f"log{case}")
    level = rng.random()
    if level < 0.7:
        donors: list[Any] = [event.record for event in seeds.events()["m365"][:20]]
        for _ in range(rng.choice([1, 1, 2, 3])):
            place = rng.randrange(len(log.records))
            log.records[place] = spoil_tree(rng, copy.deepcopy(log.records[place]), donors)
    data = log.data(rng)
    if level > 0.65:
        for _ in range(rng.choice([1, 1, 2])):
            data = spoil_bytes(rng, data, [data])
    return Input(f"log{case}{log.ending}", data, rng.randrange(1000))


# ---- a small pack --------------------------------------------------------------------------------------

#: The rules of the small pack, in which rules, pipelines and events files are mutated one at a time: one of
#: each kind. Their lists are cut.
_KEPT = ("exchange_admin_cmdlet", "bulk_cross_mailbox_access", "onprem_powershell_collection")
_NAMES = re.compile(r"[A-Za-z]\w+")


@cache
def _small_pipelines() -> list[list[Any]]:
    used = {word for seed in seeds.rules() for word in _NAMES.findall(seed.data.decode())}
    return [[seeds.pruned_pipeline(document, used) for document in s.trees] for s in seeds.pipelines()]


def small_pack(sandbox: Sandbox) -> Path:
    """The folder of a pack with three rules, made and built on first use."""
    root = sandbox.folder / "pack"
    if not root.exists():
        files = {name: (ROOT / name).read_bytes() for name in ("pyproject.toml", "sigma-check.yml")}
        rng = Random(0)
        for seed in _kept(seeds.rules()):
            [documents] = _short((seed,), 3)
            for document in documents:
                # It speaks of the values that have been cut.
                document.pop("seen_today", None)
            files[f"sigma/core/{seed.path.name}"] = as_yaml(rng, documents)
        beside = (p for name in seeds.SOURCES for p in (ROOT / "pipelines" / name).iterdir())
        for path in (p for p in beside if p.suffix != ".yml"):
            files[path.relative_to(ROOT).as_posix()] = path.read_bytes()
        for seed, documents in zip(seeds.pipelines(), _small_pipelines(), strict=True):
            files[f"pipelines/{seed.name}"] = as_yaml(rng, documents)
        for seed in _kept(seeds.events_files()):
            [documents] = _short((seed,), 2)
            files[f"tests/events/{seed.path.name}"] = as_yaml(rng, documents)
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        with redirect_stdout(io.StringIO()):
            assert cli.main(["--root", str(root), "build"]) == 0
    return root


@dataclass(frozen=True)
class _Swapped:
    """A file of the small pack, replaced by an input; `Campaign` puts it back when the group is over."""

    path: Path
    original: bytes


_swapped: list[_Swapped] = []


def _swap(sandbox: Sandbox, relative: str, data: bytes) -> Path:
    path = small_pack(sandbox) / relative
    _swapped.append(_Swapped(path, path.read_bytes()))
    path.write_bytes(data)
    return path


def tidy(sandbox: Sandbox) -> None:
    """After a group: no inputs, and the small pack as it was."""
    sandbox.clear()
    while _swapped:
        swapped = _swapped.pop()
        swapped.path.write_bytes(swapped.original)


# ---- commands ------------------------------------------------------------------------------------------


def _placed(sandbox: Sandbox, inputs: Sequence[Input]) -> list[Path]:
    paths = []
    for given in inputs:
        path = sandbox.inputs / given.name
        path.write_bytes(given.data)
        paths.append(path)
    return paths


def _everything(inputs: Sequence[Input]) -> tuple[int, ...]:
    return tuple(range(len(inputs)))


def _build_folder(sandbox: Sandbox, inputs: Sequence[Input]) -> list[Command]:
    """The folder of a stranger's rules; nine groups of ten go on past a refusal."""
    _placed(sandbox, inputs)
    out = sandbox.out / "rules"
    argv = ["--root", str(ROOT), "build", "--rules", str(sandbox.inputs), "--out", str(out)]
    argv += ["--jobs", "1"]
    if inputs[0].variant % 10:
        return [Command((*argv, "--keep-going"), _everything(inputs), (0, 1), out, (0, 1))]
    return [Command(tuple(argv), _everything(inputs), (0, 1), out, (0,))]


def _validate_rules(sandbox: Sandbox, inputs: Sequence[Input]) -> list[Command]:
    root = small_pack(sandbox)
    paths = _placed(sandbox, inputs)
    return [Command(("--root", str(root), "validate", *map(str, paths)), _everything(inputs), (0, 1))]


def _pack_commands(folder: str) -> Callable[[Sandbox, Sequence[Input]], list[Command]]:
    """Build, check or validate a small pack in which one file is mutated."""

    def commands(sandbox: Sandbox, inputs: Sequence[Input]) -> list[Command]:
        [given] = inputs
        path = _swap(sandbox, f"{folder}/{given.name}", given.data)
        root = ("--root", str(small_pack(sandbox)))
        dist = small_pack(sandbox) / "dist"
        out = sandbox.out / "pack"
        kinds = [
            Command((*root, "build", "--out", str(out)), (0,), (0, 1), out, (0,)),
            Command((*root, "build", "--out", str(out), "--keep-going"), (0,), (0, 1), out, (0, 1)),
            Command((*root, "build", "--check"), (0,), (0, 1), dist),
            Command((*root, "validate", str(path)), (0,), (0, 1)),
        ]
        return [kinds[given.variant % len(kinds)]]

    return commands


def _validate_events(sandbox: Sandbox, inputs: Sequence[Input]) -> list[Command]:
    """One in sixteen is executed too: the engines take ten times as long as all checks."""
    [given] = inputs
    path = _swap(sandbox, f"tests/events/{given.name}", given.data)
    argv = ["--root", str(small_pack(sandbox)), "validate", str(path)]
    argv += ["--format", ("text", "json", "sarif")[given.variant % 3]]
    argv += ["--no-replay"] if given.variant % 16 else []
    return [Command(tuple(argv), (0,), (0, 1))]


def _replay_events(sandbox: Sandbox, inputs: Sequence[Input]) -> list[Command]:
    [given] = inputs
    path = _swap(sandbox, f"tests/events/{given.name}", given.data)
    platform = ("splunk", "elastic", "sentinel")[given.variant % 3]
    argv = ["--root", str(small_pack(sandbox)), "replay", "--rule", path.stem, "--platform", platform]
    argv += ["--format", "json"] if given.variant % 2 else []
    return [Command(tuple(argv), (0,), (0, 1))]


def _replay_logs(sandbox: Sandbox, inputs: Sequence[Input]) -> list[Command]:
    """Each log that is refused goes through the command line alone. Those that can be read go through it
    together, into one platform's engine, and there is no excuse for not replaying them."""
    root = small_pack(sandbox)
    found: list[Command] = []
    readable: list[int] = []
    paths = _placed(sandbox, inputs)
    platform = ("splunk", "elastic", "sentinel", "splunk")[inputs[0].variant % 4]
    argv = ("--root", str(root), "replay", "--platform", platform)
    for index, path in enumerate(paths):
        try:
            with alarm(sandbox.limit):
                read([path], SOURCES).close()
            readable.append(index)
        except BaseException as error:  # what it is shows when the command reads it
            codes = (2,) if isinstance(error, PackError) else (0,)
            found.append(Command((*argv, str(path)), (index,), codes))
    if readable:
        form = "json" if inputs[0].variant % 2 else "table"
        listed = [os.fspath(paths[index]) for index in readable]
        found.append(Command((*argv, "--format", form, *listed), tuple(readable), (0,)))
    return found


TARGETS: tuple[Target, ...] = (
    Target("build --rules", 40, 10, _rule, _build_folder),
    Target("validate rules", 5, 5, _rule, _validate_rules),
    Target("pack with a mutated rule", 5, 1, _pack_rule, _pack_commands("sigma/core")),
    Target("pack with a mutated pipeline", 12, 1, _pipeline, _pack_commands("pipelines")),
    Target("validate events", 12, 1, _events, _validate_events),
    Target("replay events", 1, 1, _events, _replay_events),
    Target("replay logs", 25, 25, _log, _replay_logs),
)

CYCLE: tuple[Target, ...] = tuple(target for target in TARGETS for _ in range(target.share))


def target_of(case: int) -> Target:
    return CYCLE[case % len(CYCLE)]


def groups(cases: int) -> list[tuple[int, ...]]:
    """Cases 0 … ``cases`` - 1 in the groups that are run together."""
    found: list[tuple[int, ...]] = []
    case = 0
    while case < cases:
        place = case % len(CYCLE)
        target = CYCLE[place]
        first = CYCLE.index(target)
        end = min(case + target.batch, case - place + first + target.share, cases)
        found.append(tuple(range(case, end)))
        case = end
    return found


def input_of(seed: int, case: int) -> Input:
    """The input of a case: a function of the two numbers."""
    return target_of(case).make(Random(f"{seed}/{case}"), case)

"""The trap: an input that nobody would write, and a command that ends in a traceback, hangs, or leaves half a
dist/.

Mutated rules, pipelines, events files and logs go through the real command line: the first 100 in the
ordinary run, 2,500 in a campaign, any number with `scripts/fuzz.py`. A fuzzer that finds nothing proves
nothing until it is shown to see each kind of fault: they are planted here. What it has found in earlier
campaigns stands below, as the shortest input for each.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack import cli
from detection_pack.build import dist as build
from detection_pack.build.folders import Folder
from detection_pack.model.findings import PackError
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.replay.reading import read
from support.fuzzing import campaign, targets
from support.fuzzing.sandbox import Command, Sandbox
from support.fuzzing.targets import Input
from support.sources import SOURCES

#: The seed of the campaign that every change must pass. A failure names its case:
#: `python scripts/fuzz.py --seed 1 --case K` shows it.
SEED = 1
CASES = [100, pytest.param(1_000, marks=pytest.mark.campaign)]
#: What the planted faults are put in place of.
WRITE = build.write


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    campaign.warm_up()
    with Sandbox() as made:
        yield made


@pytest.mark.parametrize("cases", CASES)
def test_mutated_inputs_end_well(cases: int, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), "--seed", str(SEED)]
    command += ["--count", str(cases), "--jobs", "2", "--failures", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert f"{cases} cases, " in done.stdout and done.stdout.rstrip().endswith("0 failures")
    for target in targets.TARGETS:
        assert target.name in done.stdout
    print(done.stdout)


def test_a_case_is_a_function_of_its_number() -> None:
    cases = [3, 47, 58, 66, 71, 80, 99]
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from support.fuzzing import targets; from hashlib import sha256\n"
        f"print([sha256(repr(targets.input_of(7, c)).encode()).hexdigest() for c in {cases}])"
    )
    command = [sys.executable, "-c", script, str(ROOT / "scripts"), str(ROOT / "tests")]
    said = {
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "4242")
    }
    assert len(said) == 1
    assert len({targets.input_of(7, case).data for case in range(100)}) > 95


def test_groups_hold_every_case_once_and_one_target_each() -> None:
    for count in (1, 99, 100, 257):
        listed = targets.groups(count)
        assert [case for group in listed for case in group] == list(range(count))
        assert all(len({targets.target_of(case).name for case in group}) == 1 for group in listed)


# ---- planted faults ------------------------------------------------------------------------------------


def crash(*_: Any, **__: Any) -> Any:
    raise KeyError("planted")


def hang(*_: Any, **__: Any) -> Any:
    while True:
        time.sleep(0.01)


def exits_with_3(*_: Any, **__: Any) -> Any:
    raise SystemExit(3)


def prints_a_traceback(*_: Any, **__: Any) -> Any:
    print("Traceback (most recent call last):\n  ...", file=sys.stderr)
    return 1


def says_nothing(*_: Any, **__: Any) -> Any:
    return 1


def forges_a_line(*_: Any, **__: Any) -> Any:
    print("a.yml:1: what\x1b[2J; todo", file=sys.stderr)
    return 1


def writes_half(built: build.Built, out: Path, *_: Folder) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, content in itertools.islice(built.files.items(), 2):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    raise PackError.at(out, 1, "cannot be written (planted)", "x")


def writes_one_too_many(built: build.Built, out: Path, *_: Folder) -> None:
    WRITE(replace(built, files={**built.files, "stray.txt": b"x"}), out)


def leaves_a_temporary_folder(built: build.Built, out: Path, *_: Folder) -> None:
    WRITE(built, out)
    out.with_name(f".{out.name}-x").mkdir()


def writes_elsewhere(built: build.Built, out: Path, *_: Folder) -> None:
    WRITE(built, out)
    (Path(__file__).parent / "nowhere" / "x").open("w")


PLANTED: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "a crash that the command line turns into a message": (build, "make_folder", crash, "internal error"),
    "a crash past it": (cli, "main", crash, "traceback"),
    "a traceback on standard error": (cli, "main", prints_a_traceback, "traceback"),
    "a hang": (build, "make_folder", hang, "hang"),
    "another exit code": (build, "make_folder", exits_with_3, "exit code"),
    "a failure without a word": (cli, "main", says_nothing, "silence"),
    "an error that steers a terminal": (cli, "main", forges_a_line, "error line"),
    "half an output folder": (build, "write", writes_half, "partial output"),
    "a file that the manifest does not list": (build, "write", writes_one_too_many, "partial output"),
    "a temporary folder left behind": (build, "write", leaves_a_temporary_folder, "stray file"),
    "a file opened outside": (build, "write", writes_elsewhere, "escape"),
}
RULE = b"""title: Probe
logsource: {product: windows, category: process_creation}
detection: {s: {CommandLine: whoami}, condition: s}
"""


def target(name: str) -> targets.Target:
    return next(found for found in targets.TARGETS if found.name == name)


@pytest.mark.parametrize(("module", "name", "fault", "kind"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_fault_is_reported(
    module: Any, name: str, fault: Callable[..., Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, fault)
    given = Input("probe.yml", RULE, 1)
    with Sandbox(limit=0.5 if fault is hang else 5) as made:
        [(_, outcome)] = campaign.run_inputs(made, target("build --rules"), [given])
    assert kind in {found.kind for found in outcome.faults}, outcome


def test_without_a_fault_nothing_is_reported(sandbox: Sandbox) -> None:
    [(_, outcome)] = campaign.run_inputs(sandbox, target("build --rules"), [Input("probe.yml", RULE, 1)])
    assert (outcome.faults, outcome.code) == ((), 0), outcome


def test_the_case_to_blame_is_found_in_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    group = next(
        group for group in targets.groups(100) if targets.target_of(group[0]).name == "build --rules"
    )
    guilty = group[4]
    genuine = build.make_folder

    def make_folder(root: Path, rules: Path, *rest: Any, **options: Any) -> build.Built:
        return crash() if list(rules.glob(f"*{guilty}.yml")) else genuine(root, rules, *rest, **options)

    monkeypatch.setattr(build, "make_folder", make_folder)
    said: list[dict[str, Any]] = []
    with Sandbox() as made:
        campaign.run_group(made, SEED, group, said.append)
    assert {tuple(m["failed"]["cases"]) for m in said if "failed" in m} == {(guilty,)}


def test_a_group_that_is_slow_together_only_is_reported_as_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    group = next(g for g in targets.groups(100) if targets.target_of(g[0]).name == "build --rules")
    genuine = build.make_folder

    def make_folder(root: Path, rules: Path, *rest: Any, **options: Any) -> build.Built:
        return hang() if len(list(rules.iterdir())) > 1 else genuine(root, rules, *rest, **options)

    monkeypatch.setattr(build, "make_folder", make_folder)
    said: list[dict[str, Any]] = []
    # Long enough that no single build reaches it on a busy machine.
    with Sandbox(limit=1) as made:
        targets.small_pack(made)
        campaign.run_group(made, SEED, group, said.append)
    assert [(tuple(m["failed"]["cases"]), m["failed"]["kind"]) for m in said if "failed" in m] == [
        (group, "hang")
    ]


def test_a_failing_input_becomes_smaller(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = build.make_folder

    def make_folder(root: Path, rules: Path, *rest: Any, **options: Any) -> build.Built:
        named = b"whoami" in b"".join(path.read_bytes() for path in rules.glob("*.yml"))
        return crash() if named else genuine(root, rules, *rest, **options)

    monkeypatch.setattr(build, "make_folder", make_folder)
    given = Input("probe.yml", RULE, 1)
    [(_, outcome)] = campaign.run_inputs(sandbox, target("build --rules"), [given])
    smaller = campaign.shrunk(sandbox, target("build --rules"), given, outcome.faults[0])
    assert smaller.data == b"whoami"


@pytest.mark.parametrize(("body", "kind"), [("time.sleep(60)", "hang"), ("os._exit(9)", "death")])
def test_a_worker_that_falls_silent_or_ends_is_noticed(body: str, kind: str) -> None:
    worker = (
        "import json, os, sys, time\n"
        "print(json.dumps({'ready': True}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    cases = json.loads(line)\n"
        "    print(json.dumps({'running': cases}), flush=True)\n"
        f"    if 2 in cases: {body}\n"
        "    print(json.dumps({'done': {'target': 't', 'cases': len(cases), 'runs': []}}), flush=True)\n"
        "    print(json.dumps({'next': True}), flush=True)\n"
    )
    tally = campaign.Campaign([sys.executable, "-c", worker], jobs=1, silence=2.0).run([(0, 1, 2), (3,)])
    assert [(failure.cases, failure.fault.kind) for failure in tally.failures] == [((2,), kind)]
    assert tally.cases["t"] == 3


# ---- what campaigns have found -------------------------------------------------------------------------

HEAD = (
    "title: Probe\nlogsource: {product: m365, service: exchange}\ndetection: {s: {UserId: a}, condition: s}\n"
)
COUNT = (
    "title: B\nname: base\nlogsource: {product: m365}\ndetection: {s: {UserId: a}, condition: s}\n---\n"
    "title: C\ncorrelation: {type: value_count, rules: [base], group-by: [%s], timespan: 1h,"
    " condition: {field: %s, gte: 5}}\n"
)
#: Rules: file name -> text. Each ended in an internal error or took longer than five seconds.
RULES: dict[str, tuple[str, str]] = {
    "tables that are no list": ("a.yml", HEAD + "required_tables: true\n"),
    "a counted field that is a mapping": ("a.yml", COUNT % ("UserId", "[{a: 1}]")),
    "a group that is a list": ("a.yml", COUNT % ("[UserId]", "UserId")),
    "a view of an empty field": ("a.yml", HEAD + "alert: {type: a, detail: b, user: ''}\n"),
    "a date that quotes three thousand values": ("a.yml", HEAD + f"date: {[str(n) for n in range(3000)]}\n"),
    "three thousand unknown record types": (
        "a.yml",
        HEAD.replace("UserId: a", f"RecordType: {[f'x{n}' for n in range(3000)]}"),
    ),
    "a name that is no UTF-8": ("a\udcff.yml", HEAD),
}


@pytest.mark.parametrize(("name", "text"), RULES.values(), ids=RULES.keys())
def test_rules_that_campaigns_have_found(sandbox: Sandbox, name: str, text: str) -> None:
    given = Input(name, text.encode(), 1)
    for chosen in ("build --rules", "validate rules"):
        [(_, outcome)] = campaign.run_inputs(sandbox, target(chosen), [given])
        assert outcome.faults == (), outcome


#: States of a pipeline that pySigma or a backend stumbled over.
STATES: dict[str, str] = {
    "a span that is none": "key: schedule\n  val: {interval: 199999999d5m}",
    "an integration without a source": "key: prerequisites\n  val: {logs-o365.audit-*: {package: o365}}",
    "a key that is a mapping": "key: {a: b}\n  val: x",
    "fields that are a number": "key: identity_fields\n  val: 5",
    "an id that is a list": "id: [a]\n  key: x\n  val: x",
}


def paired(found: Mapping[str, str], variants: int) -> list[object]:
    """Each input with each variant, which is how it is read; in the ordinary run with one of them."""
    return [
        pytest.param(text, v, id=f"{v}-{name}", marks=() if n % variants == v else pytest.mark.campaign)
        for n, (name, text) in enumerate(found.items())
        for v in range(variants)
    ]


@pytest.mark.parametrize(("state", "variant"), paired(STATES, 4))
def test_pipelines_that_campaigns_have_found(sandbox: Sandbox, state: str, variant: int) -> None:
    root = targets.small_pack(sandbox)
    text = (root / "pipelines" / "m365" / "elastic.yml").read_text(encoding="utf-8")
    given = Input("m365/elastic.yml", f"{text}\n- type: set_state\n  {state}\n".encode(), variant)
    [(_, outcome)] = campaign.run_inputs(sandbox, target("pack with a mutated pipeline"), [given])
    assert outcome.faults == () and outcome.code == 1, outcome


CASE = (
    "rule: exchange_admin_cmdlet\n"
    "match: [{title: %s, record: {CreationTime: '2026-01-01', RecordType: 1, %s}}]\n"
)
EVENTS: dict[str, str] = {
    "keys that are numbers": CASE % ("t", "1: a, x: b"),
    "keys that are numbers, further down": CASE % ("t", "x: {1: a, b: c}"),
    "numbers that are none": CASE % ("t", "x: .inf, y: [.nan]"),
    "a title that steers a terminal": CASE % (r'"a\e[2J\nb.yml:1: c; d"', "x: 1"),
}


@pytest.mark.parametrize(("text", "variant"), paired(EVENTS, 3))
def test_events_that_campaigns_have_found(sandbox: Sandbox, text: str, variant: int) -> None:
    given = Input("exchange_admin_cmdlet.yml", text.encode(), variant)
    [(_, outcome)] = campaign.run_inputs(sandbox, target("replay events"), [given])
    assert outcome.faults == () and outcome.code == 1, outcome


RECORD = {"Id": "1", "RecordType": 1, "Operation": "Search-Mailbox", "CreationTime": "2026-01-01T00:00:00"}
EVERYWHERE = list(PLATFORMS)
#: Log -> where the record in it is found. Elasticsearch leaves out a value that its field cannot hold; a
#: document whose names cannot be fields it refuses, which a replay of a log does not model (docs/limits.md).
LOGS: dict[str, tuple[str, list[str]]] = {
    "a boolean as Python writes it": (json.dumps({**RECORD, "ExternalAccess": "False"}), EVERYWHERE),
    "a count that is a text": (json.dumps({**RECORD, "OperationCount": "many"}), EVERYWHERE),
    "numbers that are none": (json.dumps(RECORD)[:-1] + ', "OperationCount": 1e999, "x": NaN}', EVERYWHERE),
    "a name with nothing between its dots": (json.dumps({**RECORD, "..a": 1}), EVERYWHERE),
    "a name that is blank": (json.dumps({**RECORD, "\t": 1}), EVERYWHERE),
    "an id that no terminal shows": (json.dumps({**RECORD, "Id": "\u202e\ud800\uffff\x9b2J"}), EVERYWHERE),
}


@pytest.mark.campaign
@pytest.mark.parametrize(("text", "found"), LOGS.values(), ids=LOGS.keys())
def test_logs_that_campaigns_have_found(sandbox: Sandbox, text: str, found: list[str]) -> None:
    _found_everywhere(sandbox, text, found)


def test_one_log_of_all_that_campaigns_have_found(sandbox: Sandbox) -> None:
    texts = [text.replace('"Id": "1"', f'"Id": "{n}"') for n, (text, _) in enumerate(LOGS.values())]
    _found_everywhere(sandbox, "\n".join(texts), EVERYWHERE * len(LOGS))


def _found_everywhere(sandbox: Sandbox, text: str, found: list[str]) -> None:
    path = sandbox.inputs / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    command = ("--root", str(targets.small_pack(sandbox)), "replay", str(path))
    for form in ("table", "json"):
        outcome = sandbox.run(Command((*command, "--format", form), (0,), (0,)))
        assert outcome.faults == (), outcome
    assert sorted(p for hit in json.loads(outcome.out)["hits"] for p in hit["platforms"]) == sorted(found)


def test_a_log_that_is_too_deep_is_refused_with_its_line(sandbox: Sandbox) -> None:
    deep = "[" * 300 + "]" * 300
    text = json.dumps(RECORD) + "\n" + json.dumps(RECORD)[:-1] + f', "Parameters": {deep}}}\n'
    path = sandbox.inputs / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PackError, match=r"a\.jsonl:2: .*nested too deeply"):
        read([path], SOURCES, strict=True)
    with read([path], SOURCES) as reading:
        assert len(reading.events()) == reading.skipped.count == 1
    small_pack = targets.small_pack(sandbox)
    for more, codes in (((), (0,)), (("--strict",), (2,))):
        outcome = sandbox.run(Command(("--root", str(small_pack), "replay", str(path), *more), (0,), codes))
        assert outcome.faults == (), outcome

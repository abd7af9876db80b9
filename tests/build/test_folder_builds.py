"""The trap: a fast build that is not the same build.

Several processes change how long it takes and nothing else: the bytes, the findings and their order are those
of one process. And what stands in the folder that a build replaces changes nothing at all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.build import dist as build
from detection_pack.build import outcomes
from detection_pack.cli import main
from detection_pack.model.findings import PackError
from detection_pack.model.platform_names import PLATFORMS
from support import corpus
from support.checkout import snapshot

RULE = """title: Somebody Asks Who They Are
id: 3b0c1f6e-2f0a-4a7e-9d60-58d5c2b1a901
logsource: {product: windows, category: process_creation}
detection:
  selection: {CommandLine|contains: whoami}
  condition: selection
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty rules, most of them fine, one with the id of another and some that are refused."""
    folder = tmp_path_factory.mktemp("rules")
    corpus.write(folder, count=60, seed=7)
    added = {
        "broken.yml": "title: [",
        "an_id.yml": RULE,
        "same_id.yml": RULE,
        "unknown_field.yml": RULE.replace("CommandLine", "ComandLine"),
    }
    for name, text in added.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def whole(rules: Path) -> build.Built:
    return build.make_folder(ROOT, rules, keep_going=True)


def test_several_processes_make_the_same(rules: Path, whole: build.Built) -> None:
    assert build.make_folder(ROOT, rules, keep_going=True, jobs=3) == whole
    assert whole.rules > 30 and any("same_id.yml" in finding.path for finding in whole.refused)


def test_one_refusal_ends_a_build_that_does_not_keep_going(rules: Path, whole: build.Built) -> None:
    with pytest.raises(PackError) as refusal:
        build.make_folder(ROOT, rules, jobs=2)
    assert refusal.value.findings == whole.refused


def test_a_build_takes_nothing_from_the_folder_that_it_replaces(
    rules: Path, whole: build.Built, tmp_path: Path
) -> None:
    """A tampered query would survive a build that trusts what it finds."""
    out = tmp_path / "out"
    command = ["--root", str(ROOT), "build", "--rules", str(rules), "--out", str(out), "--keep-going"]
    assert main(command) == 1
    assert snapshot(out) == whole.files
    for query in out.rglob("*.kql"):
        query.write_text("print 'tampered'\n", encoding="utf-8")
    (out / ".build-state.json").write_text("{}", encoding="utf-8")
    assert main(command) == 1
    assert snapshot(out) == whole.files


@pytest.mark.parametrize("platform", PLATFORMS)
def test_one_platform_alone(platform: str, rules: Path, whole: build.Built, tmp_path: Path) -> None:
    built = build.make_folder(ROOT, rules, keep_going=True, platforms=[platform])
    folders = {path.split("/")[0] for path in built.files if "/" in path}
    assert folders == {platform}
    # The queries of the whole build, and that of a rule with another's id where the platform asks for no ids.
    queries = f"{platform}/queries/"
    own = {path: text for path, text in whole.files.items() if path.startswith(queries)}
    alone = {path: text for path, text in built.files.items() if path.startswith(queries)}
    assert len(own) > 30 and own.items() <= alone.items()
    more = alone.keys() - own.keys()
    assert all("/same_id." in path for path in more)
    assert bool(more) == (platform == "splunk")


def test_the_number_of_processes_is_a_small_number(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("0", "-1", "257", "x", "²"):
        with pytest.raises(SystemExit) as stopped:
            main(["--root", str(ROOT), "build", "--jobs", text])
        assert stopped.value.code == 2
    assert 1 <= outcomes.processors() <= (os.cpu_count() or 1)


def test_a_platform_is_chosen_for_rules_of_ones_own_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), "build", "--platform", "elastic"])
    assert stopped.value.code == 2 and "requires --rules DIR" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_build_that_is_told_to_end_says_so_and_leaves_nobody_behind(
    number: int, code: int, tmp_path: Path
) -> None:
    """Its processes went on and held the output, for whose end whoever reads it waited."""
    corpus.write(tmp_path / "rules", count=200, seed=7)
    command = ["build", "--rules", str(tmp_path / "rules"), "--out", str(tmp_path / "out"), "--jobs", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "detection_pack.cli", "--root", str(ROOT), *command, "--keep-going"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not children(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert children(process.pid)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, "detection-pack: interrupted\n")
    assert not (tmp_path / "out").exists()


DURING_A_QUERY = """
import argparse, os, signal, sys, time
from detection_pack import cli
from detection_pack.model.findings import PackError

def run(_):
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(10)
    except BaseException:
        {instead}
    return 0

class Parser:
    def parse_args(self, _):
        return argparse.Namespace(run=run, attack=None)

cli._parser = Parser
sys.exit(cli.main([]))
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(
    "instead",
    [
        "pass",
        'raise RuntimeError("Query interrupted") from None',
        'raise PackError.at("x", 1, "cannot be executed here", "mend it") from None',
        'raise OSError(5, "Input/output error") from None',
    ],
)
def test_a_signal_during_a_query_is_no_fault_of_the_query(name: str, code: int, instead: str) -> None:
    """DuckDB raises a `RuntimeError` of its own in place of what the handler raised; whoever lets one
    rule's fault not stop the others takes it for one."""
    done = subprocess.run(
        [sys.executable, "-c", DURING_A_QUERY.format(name=name, instead=instead)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "detection-pack: interrupted\n")


def children(parent: int) -> list[str]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    if not path.exists():
        pytest.skip("no /proc here")
    return path.read_text().split()

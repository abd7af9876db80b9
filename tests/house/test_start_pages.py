"""The trap: a first page that takes an hour, or whose first command fails.

Each audience has one page, ten minutes long at most at 200 words a minute. Whatever it tells to run of ours
is run here, in order, in a folder of its own.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.cli import main

FOLDER = ROOT / "docs" / "start"
AUDIENCES = ["contributor", "defender", "elastic", "responder", "sentinel", "splunk"]
#: Ten minutes of reading, commands and tables counted as words, too.
MOST_WORDS = 10 * 200
#: Whose commands run in the ordinary run; those of the others differ by platform and rule.
SAMPLE = ["sentinel", "elastic"]


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """The words of each command of ours, in order; a block of `sh` holds nothing else."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_each_audience_has_its_page_and_the_first_page_names_it() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == AUDIENCES
    first = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [name for name in AUDIENCES if f"(start/{name}.md)" not in first] == []


def test_a_responder_asks_first_for_everything_that_the_account_did() -> None:
    text = page("responder")
    own = [arguments for _, *arguments in commands(text) if arguments[0] != "simulate"]
    assert own[0][0] == "investigate" and "--user" in own[0]
    assert [name for name in ("investigation", "playbook") if f"(../{name}.md)" not in text] == []


@pytest.mark.parametrize("name", AUDIENCES)
def test_a_page_takes_ten_minutes_at_most(name: str) -> None:
    words = len(page(name).split())
    assert 200 < words <= MOST_WORDS
    stated = re.findall(r"^## .*\((\w+) minutes\)$", page(name), re.MULTILINE)
    minutes = {"two": 2, "three": 3, "four": 4}
    assert stated and sum(minutes[one] for one in stated) <= 10


@pytest.mark.parametrize(
    "name", [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.campaign) for n in AUDIENCES]
)
def test_its_commands_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = commands(page(name))
    assert listed
    (tmp_path / "sigma").symlink_to(ROOT / "sigma")
    monkeypatch.chdir(tmp_path)
    for program, *arguments in listed:
        assert program == ".venv/bin/detection-pack"
        assert main(["--root", str(ROOT), *arguments]) == 0, arguments
        shown = capsys.readouterr().out
        if arguments[0] == "replay" and arguments[1].endswith(".jsonl"):
            rows = [line.split() for line in shown.splitlines() if line.startswith(arguments[-1])]
            assert rows and int(rows[0][2]) >= 1, "the rule did not fire on the page's records"

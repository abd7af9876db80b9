"""The trap: a command whose wrong use prints two lines of usage, or a finding at line 1 of an option.

Every command, of a product of `deploy` too, is taken out of the parser itself: a new one is asked the same.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.cli import _parser, main

#: One line: the place at fault and what is wrong with it; what to do.
USAGE_ERROR = re.compile(r"error: \S[^\n]*[^\s.]; \S[^\n]*[^\s.]\n")


def commands(
    parser: argparse.ArgumentParser, *words: str
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command by its words, from the program itself to the last subcommand."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, *words, name)


COMMANDS = dict(commands(_parser()))
#: What argparse cannot know of each command: options that do not go together, names that there are not.
TOGETHER: dict[str, list[list[str]]] = {
    "build": [
        ["--rules", "x"], ["--package", "x", "--check"], ["--pipelines", "x"], ["--site", "x"],
        ["--name", "x"],
        ["--lists", "--out", "x"], ["--platform", "splunk"], ["--rules", "no_such", "--out", "x"],
        ["--format", "json", "--check"],
    ],
    "replay": [
        ["--junit", "x"], ["--rules", "x"], ["--report", "x.html"], ["--rule", "nonsense"],
        ["--format", "csv"], ["--recordings", "tests"], ["LOG", "--set", "nonsense"],
        ["--platform", "splunk", "--elasticsearch", "x"],
    ],
    "explain": [["nonsense\n", "x"]],
    "investigate": [[], ["--queries"], ["--user", "x"], ["LOG", "--user", "x", "--mailbox", "y"]],
    "tune": [["LOG", "--rule", "nonsense", "--benign", "x"]],
    "validate": [["no_such.yml"], ["--explain", "nonsense"], ["--explain", "yaml", "sigma"]],
    "new": [
        ["x", "--like", "nonsense"], ["x", "--like", "y", "--baseline", "z"],
        ["x", "--from-events", "no_such"],
    ],
    "diff": [["HEAD", "--rules", "sigma", "--check"], ["nonsense"], ["HEAD", "--jobs", "1"]],
    "simulate": [["--out", "/no/such/folder/x"], ["--out", "x", "--rule", "nonsense"]],
    "deploy": [["elastic"], ["splunk", "--url", "https://x"], ["sentinel", "--rule", "nonsense"]],
}  # fmt: skip


def wrong_uses(words: tuple[str, ...], parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """What a command's parser refuses: an unknown option, an option without its value or with one that it
    does not take, nothing where something is required."""
    required = False
    for action in parser._actions:
        required |= action.required and action.nargs != "*"
        if action.option_strings and action.nargs != 0:
            yield [*words, action.option_strings[0]]
            if action.choices is not None or (action.type not in (None, Path)):
                yield [*words, action.option_strings[0], "non\x1bsense"]
    yield [*words, *["x"] * 3, "--nonsense"]
    if required:
        yield list(words)


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    try:
        code: object = main(["--root", str(ROOT), *arguments])
    except SystemExit as ended:
        code = ended.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_wrong_use_in_one_line(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LOG").write_text("", encoding="utf-8")
    uses = list(wrong_uses(words, COMMANDS[words]))
    assert len(uses) >= 2 or not words
    if len(words) == 1:
        uses += [[*words, *more] for more in TOGETHER[words[0]]]
    for arguments in uses:
        code, out, err = said(arguments, capsys)
        assert code == 2 and out == "", arguments
        assert USAGE_ERROR.fullmatch(err) and err[:-1].isprintable(), (arguments, err)
    assert list(tmp_path.iterdir()) == [tmp_path / "LOG"]

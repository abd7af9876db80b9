"""The trap: a README that shows what was once true.

The commands exist, the table is what replay prints, the rule and its three outputs are what stands in the
files ("…" marks a cut).
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from conftest import DIST, ROOT
from detection_pack.build.dist import make_folder
from detection_pack.cli import _parser, main

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:yaml)?\n(.*?)\n```", README, re.DOTALL)
SHOWN = "suspicious_ews_client"


def shows(block: str, text: str) -> bool:
    """Whether the block's lines stand in the text, in order, each whole up to its cut."""
    position = 0
    for line in block.splitlines():
        wanted = line.removesuffix("…")
        found = text.find(wanted, position)
        if found < 0:
            return False
        position = found + len(wanted)
        if not line.endswith("…") and text[position : position + 1] not in ("\n", ""):
            return False
    return True


def test_shown_queries_are_the_files() -> None:
    rule, kql, spl, lucene = BLOCKS[3:7]
    assert shows(rule, (ROOT / "sigma" / "core" / f"{SHOWN}.yml").read_text(encoding="utf-8"))
    assert shows(kql, (DIST / "sentinel" / "queries" / f"{SHOWN}.kql").read_text(encoding="utf-8"))
    assert shows(spl, (DIST / "splunk" / "queries" / f"{SHOWN}.spl").read_text(encoding="utf-8"))
    assert shows(lucene, (DIST / "elastic" / "queries" / f"{SHOWN}.lucene").read_text(encoding="utf-8"))
    assert all(len(block.splitlines()) > 0 for block in BLOCKS[:7])


def test_a_rule_of_ones_own_becomes_what_is_shown(tmp_path: Path) -> None:
    [rule] = [block for block in BLOCKS if block.startswith("title: ")]
    [shown] = [block for block in BLOCKS if block.startswith("// ")]
    (tmp_path / "child_of_word.yml").write_text(rule + "\n", encoding="utf-8")
    built = make_folder(ROOT, tmp_path)
    assert not built.refused and not built.warnings
    assert shows(shown, built.files["sentinel/queries/child_of_word.kql"].decode())
    alerting = yaml.safe_load(built.files["sentinel/analytics/child_of_word.yaml"])
    assert [one["entityType"] for one in alerting["entityMappings"]] == ["Account", "Host"]


@pytest.mark.campaign
def test_the_table_is_what_replay_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "replay"]) == 0
    printed = capsys.readouterr().out.strip()
    shown, rest = BLOCKS[1].split("\n…\n")
    assert printed.endswith(rest)
    assert [line for line in shown.split("\n") if line not in printed.split("\n")] == []
    core = sorted(path.stem for path in (ROOT / "sigma" / "core").glob("*.yml"))
    assert [line.split()[0] for line in shown.split("\n")[2:]] == core


def test_there_are_two_commands_and_they_name_what_exists() -> None:
    commands = [line for block in BLOCKS for line in block.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert "detection-pack build" in commands[0] and "detection-pack replay" in commands[0]
    assert commands[1].endswith(".venv/bin/pytest -q")


def test_named_commands_exist() -> None:
    usage = _parser().format_help()
    named = re.findall(r"^detection-pack (\w+)", README, re.MULTILINE)
    assert named and all(name in usage for name in named)


def test_every_command_stands_in_the_list_of_commands() -> None:
    [listed] = [block for block in BLOCKS if block.startswith("detection-pack build")]
    actions = (action for action in _parser()._actions if isinstance(action.choices, dict))
    commands = [name for action in actions for name in action.choices or ()]
    assert len(commands) >= 10
    assert [name for name in commands if not re.search(rf"^detection-pack {name} ", listed, re.M)] == []


def test_no_code_within_a_line_goes_on_in_the_next() -> None:
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    long = [
        one for one in re.findall(r"`[^`]+`", prose) if len(one.splitlines()) > 1 and "detection-pack" in one
    ]
    assert long == []


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_headings_come_in_order() -> None:
    headings = [len(mark) for mark in re.findall(r"^(#+) ", README, re.MULTILINE)]
    assert headings[0] == 1 and all(b - a <= 1 for a, b in pairwise(headings))

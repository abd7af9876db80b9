"""The trap: a build that ends with a number, and nobody knows which rules a platform lacks, or why."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.cli import main
from support import corpus, rule_folders

#: What a terminal would take for a command, in a rule's own words.
HOSTILE = "\x1b]0;x\x07\u202e"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rules that are built, refused by some platforms, refused for a neighbour's id, and no rules."""
    folder = tmp_path_factory.mktemp("strangers")
    corpus.write(folder, count=6, seed=7)
    odd = rule_folders.rule("Odd", "net", "odd_rule", 3)
    odd = odd.replace("{Image|endswith: '\\net.exe'}", f"{{{json.dumps(HOSTILE + 'Field')}: net}}")
    files = {
        "a.yml": rule_folders.WHOAMI,
        "same_id.yml": rule_folders.rule("Other", "net", "", 1),
        "digest.yml": rule_folders.rule("Digest", "net", "digest", 4).replace(
            "Image|endswith: '\\net.exe'", f"'Hashes|contains': 'IMPHASH={'A' * 32}'"
        ),
        "odd.yml": odd,
        "broken\x1b[31m.yml": "title: [",
    }
    rule_folders.write(folder, files)
    return folder


def built(rules: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    command = ["--root", str(ROOT), "build", "--rules", str(rules), "--out", str(out), "--jobs", "1", *more]
    code = main(command)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_end_of_a_build_counts_what_was_written(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, errors = built(rules, tmp_path / "out", capsys, "--keep-going", "--format", "json")
    assert code == 1
    said = json.loads(text)
    listed = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["rules"]
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert (said["rules"], said["files"]) == (len(listed), len(files))
    endings = {"elastic": "lucene", "splunk": "spl"}
    for platform in said["platforms"]:
        folder = tmp_path / "out" / platform["platform"] / "queries"
        ending = endings.get(platform["platform"], "kql")
        queries = [path for path in folder.glob(f"*.{ending}") if path.name.count(".") == 1]
        assert platform["built"] == len(queries) > 0
        # 6 of the corpus and 4 of ours are rules: each is built or refused.
        assert platform["built"] + platform["refused"] + platform["absent"] == 10, platform
        assert any("the id is that of" in one["reason"] for one in platform["reasons"])
    refused = {one["platform"]: one["refused"] for one in said["platforms"]}
    assert refused["sentinel"] > refused["splunk"]  # an import hash is one of Splunk's fields alone
    assert said["unread"]["refused"] == 1
    # Each refusal once, on standard error and in JSON.
    lines = [line for line in errors.splitlines() if ": warning: " not in line]
    assert max(Counter(lines).values()) == 1 and len(lines) == len(said["refused"])


def test_the_table_is_deterministic_and_escaped(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = built(rules, tmp_path / "out", capsys, "--keep-going")
    assert first == built(rules, tmp_path / "out", capsys, "--keep-going")
    code, text, errors = first
    assert code == 1 and "10 rules" not in text
    head, _, platforms = text.splitlines()[1:4]
    assert head.split() == ["platform", "built", "refused"] and platforms.split()[0] == "defender"
    assert "1 could not be read as rules" in text and "\\u202e" in text
    reasons = text.partition("refused because")[2].splitlines()[2:]
    assert len(reasons) == len(set(reasons)) > 3
    assert all(line.isprintable() for line in [*text.splitlines(), *errors.splitlines()])


def test_without_keep_going_nothing_is_written_and_the_table_says_what_would_be(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = built(rules, tmp_path / "out", capsys)
    assert code == 1 and not (tmp_path / "out").exists()
    assert text.startswith("nothing was written") and "refused because" in text
    code, text, _ = built(rules, tmp_path / "out", capsys, "--format", "json")
    assert code == 1 and json.loads(text)["out"] is None and json.loads(text)["files"] == 0


def test_json_is_of_a_build_that_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "build", "--check", "--format", "json"])
    assert ended.value.code == 2 and "--format" in capsys.readouterr().err

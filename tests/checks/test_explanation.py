"""The trap: a caret under the wrong text, a line that steers the terminal, a code that says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.checks.explanation import examples, explained
from detection_pack.checks.places import Place, place_of, snippet
from detection_pack.checks.reporters import Report, text
from detection_pack.checks.validate import all_checks
from detection_pack.cli import main
from detection_pack.model.findings import Finding


def place(what: str, line: str) -> str | None:
    found = place_of(Finding("a.yml", 1, what, "t"), line)
    return None if found is None else line[found.start : found.end]


@pytest.mark.parametrize(
    ("what", "line", "marked"),
    [
        ('field "ab" is unknown', "  ab: x", "ab"),
        ('field "ab" is unknown', "  abc: ab-c", None),  # pieces of other words
        ('field "ab" is unknown', "  ab: ab", None),  # which of the two?
        ("\"status\": 'exp' is not valid", "status: exp", "exp"),
        ('"id": must be a UUID', "id: 12-34  # mine", "id"),
        ('"id": must be a UUID', "id: 12-34", "12-34"),
        ('"other" is taken, or "ab"', "  ab: x", "ab"),
        ("has no detection", "detection: x", None),
    ],
)
def test_the_place_is_the_one_that_is_quoted(what: str, line: str, marked: str | None) -> None:
    assert place(what, line) == marked


@pytest.mark.parametrize(
    ("line", "value", "shown", "carets"),
    [
        ("  a: bad", "bad", "    a: bad", "       ^^^"),
        ("日本: bad", "bad", "  日本: bad", "        ^^^"),
        ("a: 日本", "日本", "  a: 日本", "     ^^^^"),
        ("e\u0301: bad", "bad", "  e\u0301: bad", "     ^^^"),
        ("\x1b]0;x: bad", "bad", "  \\x1b]0;x: bad", "            ^^^"),
        ("\u202e: bad", "bad", "  \\u202e: bad", "          ^^^"),
    ],
)
def test_carets_stand_under_the_value(line: str, value: str, shown: str, carets: str) -> None:
    start = line.index(value)
    assert snippet(line, Place(start, start + len(value))) == f"{shown}\n{carets}\n"


def test_a_long_line_is_cut_around_the_value() -> None:
    line = "x" * 5000 + " bad " + "y" * 5000
    shown, carets = snippet(line, Place(5001, 5004)).splitlines()
    assert shown.startswith("  …xxx") and shown.endswith("yyy…") and len(shown) < 110
    assert shown[carets.index("^") :].startswith("bad y") and carets.count("^") == 3


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=300), st.data())
def test_any_line_is_shown_in_two_lines_of_the_terminal(line: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(line) - 1))
    end = data.draw(st.integers(start + 1, len(line)))
    shown, carets, rest = snippet(line, Place(start, end)).split("\n")
    assert rest == "" and shown.isprintable() and set(carets) == {" ", "^"} and len(shown) < 120
    assert Place(start, end).columns(line)[0] >= start + 1


def test_nothing_is_shown_of_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("ab: hunter2\n", encoding="utf-8")
    (tmp_path / "a.yml").symlink_to(tmp_path / "secret")
    finding = Finding(str(tmp_path / "a.yml"), 1, 'the field "ab"', "t", "x")
    assert "hunter2" not in text(Report([finding], tmp_path, "1", {}))


def test_columns_are_utf16_units() -> None:
    assert Place(2, 3).columns("😀 x") == (4, 5)


def test_every_code_is_explained_and_most_have_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for code, info in all_checks().items():
        said = explained(code, ROOT)
        assert (
            said
            and info.about in " ".join(said.split())
            and info.mend
            and info.mend in " ".join(said.split())
        )
    assert len(examples(ROOT)) >= 25 and set(examples(ROOT)) <= set(all_checks())
    assert main(["--root", str(ROOT), "validate", "--explain", "unknown-value"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("unknown-value (error)\n") and "RecordType: ExchangeAdmn\n" in out
    assert out.index("before:") < out.index("after:")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["unknown-feld"], 'did you mean "unknown-field"'),
        (["\x1b[31m"], '"\\x1b[31m" is no code of a finding; see docs/checks.md'),
        (["sigma", "a.yml"], "checks no file"),
    ],
)
def test_an_unknown_code_is_wrong_use(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--root", str(ROOT), "validate", "--explain", *arguments])
    assert stopped.value.code == 2 and said in capsys.readouterr().err

"""The trap: an answer kept from a run with other code, other input, or a file that somebody damaged."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from detection_pack.languages import kept as module
from detection_pack.languages.kept import FOLDER, contents, kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path / "kept"))
    return tmp_path / "kept"


def asked(*given: str, kind: str = "doubled", calls: list[str] | None = None) -> object:
    def make() -> list[str]:
        if calls is not None:
            calls.append("made")
        return [part * 2 for part in given]

    return kept(kind, given, make)


def test_an_answer_is_made_once_and_belongs_to_its_kind_and_input(folder: Path) -> None:
    calls: list[str] = []
    assert asked("a", "b", calls=calls) == asked("a", "b", calls=calls) == ["aa", "bb"]
    assert len(calls) == 1
    # Inputs that only look alike when they are joined.
    assert asked("ab", "", calls=calls) == ["abab", ""] and asked("", "ab", calls=calls) == ["", "abab"]
    asked("a", "b", kind="other", calls=calls)
    assert len(calls) == 4


def test_an_error_is_not_kept(folder: Path) -> None:
    def fails() -> None:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            kept("failing", [], fails)
    assert kept("failing", [], lambda: 1) == 1


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, "")
    calls: list[str] = []
    asked("a", calls=calls)
    asked("a", calls=calls)
    assert len(calls) == 2


@pytest.mark.parametrize("held", [b"not a database", b"SQLite format 3\0" + b"\xff" * 500])
def test_a_damaged_file_is_as_good_as_none(folder: Path, held: bytes) -> None:
    folder.mkdir()
    (folder / f"kept-{module._version()[:16]}.sqlite").write_bytes(held)
    assert asked("a") == ["aa"]


def test_a_damaged_answer_is_made_again(folder: Path) -> None:
    asked("a")
    [file] = folder.glob("*.sqlite")
    with sqlite3.connect(file) as store:
        store.execute("UPDATE kept SET value = '[\"aa'")
    assert asked("a") == ["aa"]


def test_a_folder_that_cannot_be_made_or_written_is_as_good_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file" / "below"))
    assert asked("a") == ["aa"]


def test_only_its_owner_reads_the_folder(folder: Path) -> None:
    asked("a")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_older_half_goes_when_there_are_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    for number in range(25):
        asked(str(number))
    [file] = folder.glob("*.sqlite")
    with sqlite3.connect(file) as store:
        [(count,)] = store.execute("SELECT count(*) FROM kept").fetchall()
    assert count <= 10
    calls: list[str] = []
    asked("24", calls=calls)
    assert calls == []


def test_the_files_of_two_other_versions_stay(folder: Path) -> None:
    folder.mkdir()
    for number in range(5):
        path = folder / f"kept-{number}.sqlite"
        path.write_text("")
        os.utime(path, (number, number))
    asked("a")
    assert {path.name for path in folder.glob("kept-?.sqlite")} == {"kept-3.sqlite", "kept-4.sqlite"}


def test_contents_go_by_names_and_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a")
    other.write_text("a")
    assert contents([one]) != contents([other])
    before = contents([one])
    one.write_text("b")
    assert contents([one]) != before


def test_a_changed_package_finds_nothing_of_the_old_one(folder: Path, tmp_path: Path) -> None:
    """A copy of the package with one line more answers for itself."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from detection_pack.languages.kept import kept\n"
        "print(kept('told', [], lambda: sys.argv[2]))"
    )

    def told(scripts: Path, answer: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, str(scripts), answer], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    copy = tmp_path / "scripts" / "detection_pack"
    for name in ("__init__.py", "languages/__init__.py", "languages/kept.py"):
        source = ROOT / "scripts" / "detection_pack" / name
        if source.exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(source.read_bytes())
    assert told(copy.parent, "first") == told(copy.parent, "second") == "first"
    (copy / "languages" / "more.sql").write_text("SELECT 1")
    assert told(copy.parent, "third") == "third"

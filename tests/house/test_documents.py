"""The trap: a YAML file from a stranger.

Anchors that explode, tags that construct objects, duplicate keys that a reviewer misses, depth that overflows
the stack, text that forges a second line of output: each is refused with one line, and at once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from detection_pack.model.documents import MAX_BYTES, load_documents, read_text
from detection_pack.model.findings import Finding, PackError

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))

HOSTILE = {
    "aliases that explode": (BOMB, "uses a YAML alias"),
    "an alias of itself": ("a: &a [*a]\n", "uses a YAML alias"),
    "a tag that runs a program": ("a: !!python/object/apply:os.system [id]\n", "YAML"),
    "a duplicate key": ("title: a\ntitle: b\n", 'repeats the key "title"'),
    "a duplicate key of another type": ("1: a\n'1': b\n", 'repeats the key "1"'),
    "a NUL": ("title: a\0b\n", "NUL"),
    "depth": ("[" * 5000, "YAML"),
    "depth that closes": ("[" * 300 + "]" * 300, "nested too deeply"),
    "a mapping as a key": ("{a: b}: c\n", "not plain text"),
    "a control character": ("a: b\nc: \x1b[31m\n", "U+001B"),
    "a noncharacter": ("a: b\nc: \uffff\n", "U+FFFF"),
    "documents without end": ("---\na: b\n" * 10_000, "YAML documents"),
    "a merge": ("a: {<<: {b: c}}\n", "YAML"),
    "a tab": ("a:\n\tb: c\n", "YAML"),
}


@pytest.mark.parametrize(("text", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_refused_with_one_line_and_at_once(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rule.yml"
    path.write_text(text, encoding="utf-8")
    start = time.monotonic()
    with pytest.raises(PackError) as refusal:
        load_documents(path)
    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert time.monotonic() - start < 5


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe without a writer would be waited for, a device read for ever."""
    os.mkfifo(tmp_path / "pipe.yml")
    for path in (tmp_path / "pipe.yml", tmp_path, Path("/dev/zero")):
        with pytest.raises(PackError, match=r"regular file|cannot be read"):
            read_text(path)


#: What YAML 1.1 makes another value of.
AS_WRITTEN = (
    "12:30", "010", "0x1f", "0b11", "1_000", "1.10", "1e3", ".inf", "-0", "+5", "9" * 16, "9" * 10_000,
    "no", "yes", "on", "OFF", "2026-01-01", "\uff15",
)  # fmt: skip


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_a_plain_scalar_means_what_is_written(text: str) -> None:
    assert load_documents(Path("rule.yml"), f"a: {text}\n")[0].data == {"a": text}


def test_numbers_and_truth_values() -> None:
    [document] = load_documents(Path("rule.yml"), "[0, -5, 15, 1.5, true, FALSE, ~, null]\n")
    assert document.data == [0, -5, 15, 1.5, True, False, None, None]


def test_size_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_bytes(b"a: " + b"x" * MAX_BYTES)
    with pytest.raises(PackError, match="larger than"):
        load_documents(path)


def test_lines_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text(
        "# c\ntitle: x\n\ndetection:\n  a:\n    F|contains:\n      - one\n      - two\n", encoding="utf-8"
    )
    [document] = load_documents(path)
    assert document.line("title") == 2
    assert document.line("detection", "a", "F|contains") == 6
    assert document.line("detection", "a", "F|contains", 1) == 8
    assert document.line("detection", "a", "gone") == 5
    said = [document.line(*document.keys_of(text)) for text in ("F", "two", "none")]
    assert said == [6, 8, 2]


def test_a_field_is_looked_for_in_the_detection_first(tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text("status: test\ndetection:\n  a:\n    status: x\n", encoding="utf-8")
    assert load_documents(path)[0].keys_of("status") == ("detection", "a", "status")


def test_dates_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "rule.yml"
    path.write_text("date: 2026-11-23\n", encoding="utf-8")
    assert load_documents(path)[0].data == {"date": "2026-11-23"}


def test_a_finding_is_one_line_whatever_it_quotes() -> None:
    shown = str(Finding("a\nb.yml", 1, 'field "x\r\n\x1b[31m\u202e"', "y"))
    assert len(shown.splitlines()) == 1 and shown.isprintable()

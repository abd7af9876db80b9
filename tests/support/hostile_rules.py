"""The rule files of tests/hostile, what must become of them, and those too large or too odd to commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from conftest import ROOT
from detection_pack.model.event import Event
from detection_pack.model.limits import MAX_CONDITION_LENGTH, MAX_RULE_BYTES, MAX_VALUE_LENGTH, MAX_VALUES
from support.sources import M365, PROCESS

FOLDER = ROOT / "tests" / "hostile"
TIME = "2026-03-10T12:00:00"

HEAD = "title: Large\nlogsource: {product: windows, category: process_creation}\n"


@dataclass(frozen=True)
class Expected:
    """``refused``: a part of the line that says why. Else what the rule must match: each record alone, or,
    for a correlation, the records of each group together."""

    refused: str | None
    kind: str
    match: tuple[tuple[Mapping[str, Any], ...], ...]
    no_match: tuple[tuple[Mapping[str, Any], ...], ...]
    correlation: bool

    def events(self, name: str) -> dict[str, tuple[Event, ...]]:
        """The events of each case; a case is ``name:+0`` (must match) or ``name:-0`` (must not)."""
        sides = (("+", self.match), ("-", self.no_match))
        return {
            (case := f"{name}:{sign}{number}"): tuple(
                self._event(f"{case}:{n}", record) for n, record in enumerate(records)
            )
            for sign, listed in sides
            for number, records in enumerate(listed)
        }

    def _event(self, identifier: str, record: Mapping[str, Any]) -> Event:
        if self.kind == "process":
            return Event(identifier, PROCESS, {"UtcTime": TIME, "Id": identifier, **record})
        base = {"CreationTime": TIME, "Id": identifier, "Workload": "Exchange", "RecordType": 2}
        return Event(identifier, M365, {**base, **record})


@cache
def expectations() -> dict[str, Expected]:
    """What must become of each committed file, by its stem."""
    stated = yaml.safe_load((FOLDER / "expectations.yml").read_text(encoding="utf-8"))
    return {name: _expected(about) for name, about in stated.items()}


def _expected(about: Mapping[str, Any]) -> Expected:
    correlation = "groups" in about
    if correlation:
        match, no_match = list(about["groups"].values()), about["no_groups"]
    else:
        match, no_match = ([[record] for record in about.get(side, ())] for side in ("match", "no_match"))
    return Expected(
        about.get("refused"),
        about.get("kind", "m365"),
        tuple(map(tuple, match)),
        tuple(map(tuple, no_match)),
        correlation,
    )


def rule_paths() -> list[Path]:
    return [path for path in sorted(FOLDER.glob("*.yml")) if path.name != "expectations.yml"]


def listed(values: Sequence[str], item: str = "CommandLine") -> str:
    """A rule that compares one field with many values."""
    return f"{HEAD}detection:\n  s:\n    {item}: [{', '.join(values)}]\n  condition: s\n"


def _text(content: str) -> Callable[[Path], None]:
    return _bytes(content.encode())


def _bytes(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def _secret(path: Path) -> None:
    """What a link of a stranger may point to."""
    path.parent.parent.joinpath("secret").write_text("root: [SECRET: x\n", encoding="utf-8")


def _link(path: Path) -> None:
    _secret(path)
    path.symlink_to(path.parent.parent / "secret")


def _link_to_rule(path: Path) -> None:
    outside = path.parent.parent / "outside.yml"
    outside.write_text(listed(["SECRET"]), encoding="utf-8")
    path.symlink_to(outside)


def _link_to_folder(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.mkdir()
    outside.joinpath("rule.yml").write_text(listed(["SECRET"]), encoding="utf-8")
    path.symlink_to(outside)


def _deep_folder(path: Path) -> None:
    path.mkdir()
    path.joinpath("inner.yml").write_text(listed(["inner"]), encoding="utf-8")


PLAIN = listed(["plain"])
_BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
_MANY = [f"v{i}" for i in range(10_000)]

#: Name -> (how the file is made, a part of the one line that refuses it; None where it is built).
GENERATED: dict[str, tuple[Callable[[Path], None], str | None]] = {
    "a value of ten megabytes": (_text(listed(["x" * 10_000_000])), f"larger than {MAX_RULE_BYTES} bytes"),
    "a value of a limit and one": (_text(listed(["x" * (MAX_VALUE_LENGTH + 1)])), "are allowed"),
    "ten thousand values": (_text(listed(_MANY, "CommandLine|contains")), f"{MAX_VALUES:,} are allowed"),
    "a limit of values and one": (_text(listed(_MANY[: MAX_VALUES + 1])), f"{MAX_VALUES:,} are allowed"),
    "two bytes a value": (_text(listed(["a"] * 80_000)), f"{MAX_VALUES:,} are allowed"),
    "ten thousand fields": (
        _text(
            f"{HEAD}detection:\n  s:\n"
            + "".join(f"    f{i}: x\n" for i in range(10_000))
            + "  condition: s\n"
        ),
        f"{MAX_VALUES:,} are allowed",
    ),
    "ten thousand selections": (
        _text(
            f"{HEAD}detection:\n"
            + "".join(f"  s{i}: {{CommandLine: x}}\n" for i in range(10_000))
            + "  condition: 1 of s*\n"
        ),
        f"{MAX_VALUES:,} are allowed",
    ),
    "a condition of a limit and one": (
        _text(f"{HEAD}detection: {{s: {{CommandLine: x}}, condition: s{' ' * MAX_CONDITION_LENGTH}or s}}\n"),
        f"{MAX_CONDITION_LENGTH:,} are allowed",
    ),
    "aliases that explode": (_text(_BOMB + PLAIN), "uses a YAML alias"),
    "a megabyte of brackets": (_text("[" * 200_000), "YAML"),
    "documents without end": (_text("---\na: b\n" * 20_000), "YAML documents"),
    "nothing": (_text(""), "holds no Sigma rule"),
    "nulls": (_bytes(b"\0" * 100), "NUL"),
    "another encoding": (_bytes(PLAIN.encode("utf-16")), "is not UTF-8"),
    "half a character": (_bytes(PLAIN.encode() + b"# \xc3\n"), "is not UTF-8"),
    "an encoded surrogate": (_bytes(PLAIN.encode() + b"# \xed\xa0\x80\n"), "is not UTF-8"),
    "a byte order mark": (_bytes(b"\xef\xbb\xbf" + PLAIN.encode()), None),
    "two byte order marks": (_bytes(b"\xef\xbb\xbf" * 2 + PLAIN.encode()), "U+FEFF"),
    "carriage returns": (_bytes(PLAIN.replace("\n", "\r\n").encode()), None),
    "a link to a secret": (_link, "is a symbolic link"),
    "a link to a rule": (_link_to_rule, "is a symbolic link"),
    "a link to a folder": (_link_to_folder, "is a symbolic link"),
    "a link to nothing": (lambda path: path.symlink_to("/nowhere/x"), "is a symbolic link"),
    "a link to itself": (lambda path: path.symlink_to(path), "is a symbolic link"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a symbolic link"),
    "a pipe without a writer": (os.mkfifo, "is not a regular file"),
    "a folder with a rule": (_deep_folder, None),
}

#: File names without their ending, and the rule's name; None where it is refused.
NAMES: dict[str, str] = {
    "con": "rule_con",
    "NUL": "rule_nul",
    "com1": "rule_com1",
    "default": "rule_default",
    "...": "rule",
    "-rf": "rule_rf",
    "..": "rule",
    "a b; rm -rf ~ & $(id) `id` | x": "a_b_rm_rf_id_id_x",
    "a\nb:1: forged; line": "a_b_1_forged_line",
    "\x1b[31mred": "rule_31mred",
    "\u202egnp.exe": "gnp_exe",
    "%2e%2e%2fetc": "rule_2e_2e_2fetc",
    "..\\..\\etc": "etc",
    "[concat('x')]": "concat_x",
    "a" * 200: "a" * 55 + "_c2a908d9",
    "é" * 60: "rule",
    "１２３": "rule",
    "x_filter": "x_filter",
    "aux.kql": "aux_kql",
}

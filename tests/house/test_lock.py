"""The trap: an installation that is another one tomorrow.

README's commands install what requirements/ states, each archive by its hash. A dependency of pyproject.toml
that no lock holds is missing in a fresh clone; one that is locked in a version outside its range was never
meant to run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDER = ROOT / "requirements"
RUNTIME = PROJECT["project"]["dependencies"]
TEST = PROJECT["project"]["optional-dependencies"]["test"]
BUILD = PROJECT["build-system"]["requires"]
#: Whatever pyproject.toml names, by the lock that README's commands install it from.
STATED = {"lock.txt": [*RUNTIME, *BUILD], "test.txt": [*RUNTIME, *TEST, *BUILD]}
#: On its way out of pyproject.toml: DuckDB takes over what it executes.
LEAVING = {"osmem-server"}
#: Named for the year that they are of.
CALENDAR = {"pytz"}
#: What the product is run on, in the terms of environment markers.
ENVIRONMENTS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.{patch}",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
    }
    for python, patch, machine in product(("3.11", "3.12", "3.13"), ("0", "13"), ("x86_64", "aarch64"))
]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """One entry of a lock: a version of a package, where it is wanted, and the hashes of its archives."""

    name: str
    version: Version
    marker: Marker | None
    hashes: tuple[str, ...]

    def wanted(self, environment: dict[str, str]) -> bool:
        return self.marker is None or self.marker.evaluate(environment)


def pins(text: str) -> Iterator[Pin]:
    """The entries of a requirements file. Anything but a pin with its hashes is refused."""
    for entry in re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE)).splitlines():
        stated, *options = re.split(r"\s+(?=--)", entry)
        requirement = Requirement(stated.strip())
        [specifier] = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version and not requirement.url, entry
        assert options and all(HASH.fullmatch(option.strip()) for option in options), entry
        name = canonicalize_name(requirement.name)
        yield Pin(name, Version(specifier.version), requirement.marker, tuple(options))


LOCKS = {name: list(pins((FOLDER / name).read_text(encoding="utf-8"))) for name in STATED}


def disagreements(stated: list[str], locked: list[Pin]) -> list[str]:
    """Every requirement that some environment gets in no version, in two, or in one outside its range."""
    found = []
    for text in stated:
        requirement = Requirement(text)
        if requirement.name in LEAVING:
            continue
        for environment in ENVIRONMENTS:
            name = canonicalize_name(requirement.name)
            versions = [pin.version for pin in locked if pin.name == name and pin.wanted(environment)]
            if len(versions) != 1 or not requirement.specifier.contains(versions[0], prereleases=True):
                found.append(f"{text} on {environment['python_full_version']}: {versions}")
    return found


@pytest.mark.parametrize("name", STATED)
def test_every_requirement_is_locked_in_its_range(name: str) -> None:
    assert len(LOCKS[name]) >= len(STATED[name]) - len(LEAVING)
    assert disagreements(STATED[name], LOCKS[name]) == []


def test_a_disagreement_is_found() -> None:
    locked = LOCKS["lock.txt"]
    assert disagreements(["duckdb<1"], locked) and disagreements(["no-such-package"], locked)
    fewer = [pin for pin in locked if pin.name != "lark"]
    assert {line.split(">")[0] for line in disagreements(STATED["lock.txt"], fewer)} == {"lark"}


def test_tests_run_on_what_is_shipped() -> None:
    """A package that both locks hold has one version and the same hashes."""
    theirs = {(pin.name, str(pin.marker)): pin for pin in LOCKS["test.txt"]}
    assert {(p.name, str(p.marker)): p for p in LOCKS["lock.txt"]}.items() <= theirs.items()


def test_nothing_is_locked_that_is_leaving() -> None:
    assert not LEAVING & {pin.name for lock in LOCKS.values() for pin in lock}


def test_what_builds_the_project_is_in_the_lock() -> None:
    """``--no-build-isolation`` takes it from the environment, so it is installed before the project."""
    assert {"setuptools", "wheel"} <= {pin.name for pin in LOCKS["lock.txt"]}
    written = (FOLDER / "build.in").read_text(encoding="utf-8").splitlines()
    assert set(BUILD) == {line for line in written if not line.startswith(("#", "wheel"))}


@pytest.mark.parametrize("name", STATED)
def test_a_lock_names_no_place_to_download_from(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links|--trusted-host|@ |file:", text)


@pytest.mark.parametrize("bad", ["a", "a==1", "a>=1 --hash=sha256:" + "0" * 64, "-e .", "a==1 --hash=md5:0"])
def test_anything_but_a_pin_with_hashes_is_refused(bad: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        list(pins(f"{bad}\n"))


@pytest.mark.parametrize("text", [*RUNTIME, *TEST, *BUILD])
def test_no_major_version_comes_unseen(text: str) -> None:
    """Every range has an upper end, but for calendar versions: those have no major version."""
    if Requirement(text).name in CALENDAR:
        return
    assert any(specifier.operator in {"<", "<=", "==", "~="} for specifier in Requirement(text).specifier)


def test_readme_installs_the_locks() -> None:
    """Archives by hash first; then the project, which brings nothing along and downloads nothing."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("python3 -m venv")]
    for command, lock in zip(commands, STATED, strict=True):
        installs = re.findall(r"pip install (.*?) &&", command)
        assert installs == [
            f"-q --require-hashes -r requirements/{lock}",
            "-q --no-deps --no-build-isolation -e .",
        ]

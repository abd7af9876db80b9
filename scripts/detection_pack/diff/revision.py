"""The pack as it was at a git revision: what its users had, and the rules and events that it came from."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from detection_pack.build.dist import MANIFEST, rule_entries
from detection_pack.model.findings import Finding, PackError

#: What a comparison reads of a revision, relative to the pack's folder.
PATHS = ("dist", "sigma", "pipelines", "tests/events", "pyproject.toml")
#: Nothing is asked of a person, fetched or written.
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
_FILES = ("100644", "100755")


class UnknownRevision(PackError):
    """A revision that git does not know, or that holds no build to compare with."""


@dataclass(frozen=True)
class Revision:
    """``commit`` is the full name of the commit; ``folder`` holds its files under `PATHS`."""

    commit: str
    folder: Path

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    def shown(self, findings: Iterable[Finding]) -> list[Finding]:
        """Findings about files of the revision, under the names that git has for them."""
        short = f"{self.commit[:12]}:"
        return [replace(f, path=f.path.replace(f"{self.folder}/", short)) for f in findings]


def check_out(root: Path, name: str, into: Path) -> Revision:
    """Write what a revision holds of the pack in ``root`` into the empty folder ``into``.

    ``name`` may be anything that git takes for a commit; it is never taken for an option. Links and
    submodules are left out. Raises `UnknownRevision`.
    """
    commit = _commit(root, name)
    _write_files(root, commit, into, PATHS)
    revision = Revision(commit, into)
    try:
        rule_entries(revision.dist)
    except PackError as error:
        what = f"{commit[:12]} has no dist/{MANIFEST} of this pack"
        raise UnknownRevision.at("BASE", 1, what, "name a revision whose dist/ is committed") from error
    return revision


def check_out_folder(folder: Path, name: str, into: Path) -> str:
    """Write what a revision holds of ``folder`` into the new folder ``into``, and give the commit's full
    name. A folder that the revision lacks is empty. As `check_out` in all else."""
    commit = _commit(folder, name)
    into.mkdir()
    _write_files(folder, commit, into)
    return commit


def _commit(root: Path, name: str) -> str:
    try:
        asked = _git(root, ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"])
        return asked.decode("ascii").strip()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        todo = "name a commit, a branch or a tag that is in this clone (a shallow clone has few)"
        raise UnknownRevision.at("BASE", 1, f'"{name}" is no revision of {root}', todo) from error


def _write_files(root: Path, commit: str, into: Path, paths: Sequence[str] = ()) -> None:
    try:
        for path, content in _blobs(root, commit, paths):
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        what = f"the files of {commit[:12]} cannot be read ({type(error).__name__})"
        raise UnknownRevision.at("BASE", 1, what, "check the clone with git fsck") from error


def _blobs(root: Path, commit: str, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Every file under ``paths`` (without any: all) by its path from ``root``, which need not be the top of
    the repository."""
    listed = _git(root, ["ls-tree", "-r", "-z", "--end-of-options", commit, *paths])
    entries = []
    for line in filter(None, listed.decode("utf-8").split("\0")):
        about, _, path = line.partition("\t")
        mode, _, blob = about.split(" ")[:3]
        if mode in _FILES and ".." not in PurePosixPath(path).parts and not path.startswith("/"):
            entries.append((path, blob))
    answer = _git(root, ["cat-file", "--batch"], "".join(f"{blob}\n" for _, blob in entries).encode())
    position = 0
    for path, _ in entries:
        end = answer.index(b"\n", position)
        size = int(answer[position:end].split(b" ")[2])
        yield path, answer[end + 1 : end + 1 + size]
        position = end + 1 + size + 1


def _git(root: Path, arguments: Sequence[str], given: bytes = b"") -> bytes:
    finished = subprocess.run(
        ["git", "-C", str(root.resolve()), *arguments],
        input=given,
        capture_output=True,
        check=True,
        env={**os.environ, **_ENVIRONMENT},
    )
    return finished.stdout

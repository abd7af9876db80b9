"""What changes in what is built of a folder of anybody's rules, from a git revision to the working tree.

Such a folder has neither a committed build nor events of the pack's form. Both sides are built here, by this
program and with the same pipelines and names, so that all that differs comes from the rules; which version a
change needs is its owner's business.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detection_pack.build.dist import Built, make_folder
from detection_pack.diff.difference import FileChange, RuleChange, ValueChange, differing_keys, shown, values
from detection_pack.diff.revision import check_out_folder
from detection_pack.diff.sides import QUERIES, Side, side_of
from detection_pack.model.collection import of_folder
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.pack import pack_version
from detection_pack.model.platform_names import PLATFORMS


@dataclass(frozen=True)
class FolderReport:
    """``base`` is the full name of the commit, ``version`` that of this program. ``refused`` is what a
    platform, or every one, refuses at the head and did not at the base; ``mended`` the reverse. Paths of
    findings begin with the folder's, as it was given; those of ``mended`` have the lines of the base."""

    base: str
    version: str
    rules: tuple[RuleChange, ...]
    refused: tuple[Finding, ...]
    mended: tuple[Finding, ...]


def compare_folder(
    root: Path, rules_dir: Path, name: str, platforms: Sequence[str] = PLATFORMS, jobs: int = 1
) -> FolderReport:
    """Compare the folder ``rules_dir`` with what it held at the revision ``name`` of its repository, built
    with the pack in ``root``.

    A side without a rule is an empty build. Raises `UnknownRevision` for a revision that git does not have,
    `PackError` for a folder that is none.
    """
    if not rules_dir.is_dir():
        raise PackError.at(rules_dir, 1, "is not a folder", "name the folder that holds the rules")
    named = of_folder(rules_dir.resolve().name)
    with tempfile.TemporaryDirectory(prefix="detection-pack-") as scratch:
        then = Path(scratch) / "base"
        commit = check_out_folder(rules_dir, name, then)
        sides, said = [], []
        for folder in (then, rules_dir):
            try:
                built = make_folder(root, folder, True, platforms, jobs, collection=named)
            except PackError as error:
                built = Built({}, error.findings)
            sides.append(_side(Path(scratch), built))
            said.append(dict(_refusals(built, folder, rules_dir)))
    before, after = sides
    changes = sorted(_changes(before, after), key=lambda change: change.name)
    return FolderReport(
        commit,
        pack_version(root),
        tuple(changes),
        tuple(finding for key, finding in said[1].items() if key not in said[0]),
        tuple(finding for key, finding in said[0].items() if key not in said[1]),
    )


def _side(dist: Path, built: Built) -> Side:
    if not built.files:
        return Side(dist, {}, {}, {}, {}, {}, {})
    return side_of(dist, built.files, ())


def _refusals(built: Built, folder: Path, shown: Path) -> Iterator[tuple[tuple[str, str], Finding]]:
    """What was refused by file and reason, under the name of the folder that was asked for. That a folder is
    empty is no fault of a rule."""
    for finding in built.refused:
        if finding.path == str(folder):
            continue
        path = str(shown / finding.path.removeprefix(f"{folder}/"))
        yield (path, finding.what), replace(finding, path=path)


def _changes(before: Side, after: Side) -> Iterator[RuleChange]:
    """The rules of which users get something else, by name."""
    for name in sorted(before.entries.keys() | after.entries.keys()):
        was, now = (side if name in side.entries else None for side in (before, after))
        if was is not None and now is not None and was.same(now, name):
            continue
        kind = "added" if was is None else "removed" if now is None else "changed"
        own = [side.own(name) if side else {} for side in (was, now)]
        queries = [side.queries(name) if side else {} for side in (was, now)]
        paths = differing_keys(*own)
        about: tuple[ValueChange, ...] = ()
        settings: tuple[ValueChange, ...] = ()
        if was is not None and now is not None:
            about = values(*({k: shown(v) for k, v in side.about(name).items()} for side in (was, now)))
            settings = values(was.settings[name], now.settings[name])
        yield RuleChange(
            name,
            kind,
            str((now or before).entries[name].get("title", name)),
            ("", ""),
            (),
            tuple(
                FileChange(path, queries[0].get(path), queries[1].get(path))
                for path in paths
                if path.endswith(QUERIES)
            ),
            tuple(path for path in paths if not path.endswith(QUERIES)),
            about,
            settings,
        )

"""The files of a folder of rules, and a name for each rule in them.

A name becomes a file name, a macro name and a KQL identifier. In a folder of anybody's rules two may ask for
the same: which of them a name goes to must not depend on what else is there or on the order of reading.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from detection_pack.model.findings import PackError
from detection_pack.model.rule import TIERS

#: A rule's name becomes a file name, a macro name and a KQL identifier.
NAME = re.compile(r"[a-z][a-z0-9_]{2,63}")
#: Windows opens a device by these names, whatever ending they have ("Naming Files, Paths, and Namespaces");
#: [default] of a Splunk .conf file holds the settings of all stanzas.
RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]|default")
LONGEST = 64
SUFFIXES = (".yml", ".yaml")


def rule_files(root: Path, rules_dir: Path | None = None) -> list[tuple[Path, str]]:
    """``(path, tier)`` of every rule file, sorted by path."""
    if rules_dir is not None:
        if not rules_dir.is_dir():
            raise PackError.at(rules_dir, 1, "is not a folder", "name the folder that holds the rules")
        return [(path, "other") for path in yaml_files(rules_dir)]
    return [(path, tier) for tier in TIERS for path in sorted((root / "sigma" / tier).glob("*.yml"))]


def yaml_files(folder: Path) -> list[Path]:
    """Every YAML file below a folder, sorted, and every folder below it that cannot be read: whoever opens
    it is told why. Raises `OSError` where the folder itself cannot be read.

    Folders whose name begins with a dot, such as .git and .github, are left out. A folder is walked; a link
    to one is not, and is refused as a rule like any other link.
    """
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        if error.filename is None or Path(error.filename) == folder:
            raise error
        found.append(Path(error.filename))

    for where, folders, files in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        found += [Path(where) / name for name in (*files, *links) if is_yaml(Path(name))]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(found)


def is_yaml(path: Path) -> bool:
    """Whether its name says so, in capitals or in small letters."""
    return path.suffix.lower() in SUFFIXES


def fit(text: str) -> str:
    """Any text made fit to name a rule."""
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "rule"
    name = name if name[0].isalpha() else f"rule_{name}"
    name = f"rule_{name}" if len(name) < 3 or RESERVED.fullmatch(name) else name
    if len(name) > LONGEST:
        # Two long names may begin alike.
        name = f"{name[: LONGEST - 9]}_{_digest(name)}"
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


@dataclass(frozen=True)
class Label:
    """What a rule can be named by: ``said`` by its author or file, ``above`` the names of what that stands
    in, the nearest last, ``number`` its place in a file of several rules, else 0, and ``place``, which no
    other has."""

    said: str
    place: str
    above: tuple[str, ...] = ()
    number: int = 0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that it may have, each saying more than the one before; the last is its own alone."""
        within = [(*self.above[len(self.above) - n :], self.said) for n in range(len(self.above) + 1)]
        if self.number:
            within.append((*within[-1], str(self.number)))
        last = fit("_".join(within[-1]))[: LONGEST - 9]
        listed = [fit("_".join(parts)) for parts in within]
        return (*listed, f"{last}_{_digest(self.place)}")


def distinct_names(labels: Sequence[Label]) -> list[str]:
    """A name for each, no two the same: the shortest that tells it apart, whatever the order.

    Of those that ask for the same name all get a longer one, save where one has nothing to add but a digest:
    a file of the folder itself beside one of a subfolder.
    """
    chosen = [0] * len(labels)
    while True:
        names = [label.names[level] for label, level in zip(labels, chosen, strict=True)]
        taken = Counter(names)
        if len(taken) == len(names):
            return names
        raised = False
        for name in [name for name, times in taken.items() if times > 1]:
            group = [n for n, other in enumerate(names) if other == name]
            able = [n for n in group if chosen[n] < len(labels[n].names) - 2]
            if not able:
                first = [n for n in group if chosen[n] == 0]
                kept = first if len(first) == 1 else []
                able = [n for n in group if n not in kept and chosen[n] < len(labels[n].names) - 1]
            for n in able:
                chosen[n] += 1
            raised = raised or bool(able)
        if not raised:
            return names

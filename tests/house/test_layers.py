"""The trap: an import that nobody meant, which ties two rooms together for good.

The package has rooms, one a thing that a person asks for, on a few floors that they share; imports go down
only. Here stand all arrows that are allowed: one more is a decision, and is made here.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "scripts" / "detection_pack"
#: Room -> the rooms that its modules may import. A platform's folder is a room of its own.
ALLOWED: dict[str, frozenset[str]] = {
    room: frozenset(below.split())
    for room, below in {
        "model": "",
        "languages": "model",
        "platforms": "languages model",
        "build": "platforms languages model",
        "replay": "build platforms languages model",
        "pages": "build platforms languages model",
        "checks": "replay build platforms languages model",
        "diff": "replay build platforms languages model",
        "deploy": "build platforms languages model",
        "investigate": "replay build platforms languages model",
        # What was seen is read as a replay reads it, and a draft is replayed on it and on a baseline.
        "new": "checks replay build model",
        "simulate": "model",
        "tune": "replay build platforms languages model",
        "cli": "simulate new tune investigate checks diff deploy replay pages build model",
    }.items()
}
#: What two platforms of one vendor share stands in a folder of its own, which is no platform.
FAMILY = ("platforms", "kusto")


def rooms(path: Path, package: Path = PACKAGE) -> tuple[str, ...]:
    """The room of a module: ("platforms", "splunk") for one in a platform's folder, else one name."""
    parts = path.relative_to(package).with_suffix("").parts
    if parts[0] == "platforms" and len(parts) > 2:
        return parts[:2]
    return parts[:1]


def imported(path: Path, package: Path = PACKAGE) -> set[tuple[str, ...]]:
    """The rooms that a module imports anything of, those inside functions and for types included."""
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name of what is imported"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == package.name and "." in name:
                found.add(_room_of(name, package))
    return found


def _room_of(name: str, package: Path) -> tuple[str, ...]:
    parts = name.split(".")[1:]
    if parts[0] == "platforms" and len(parts) > 1 and (package / "platforms" / parts[1]).is_dir():
        return tuple(parts[:2])
    return tuple(parts[:1])


def forbidden(package: Path = PACKAGE) -> list[str]:
    """Every import that no arrow allows, as ``module -> room``."""
    found = []
    for path in sorted(package.rglob("*.py")):
        own = rooms(path, package)
        for target in sorted(imported(path, package)):
            inside = target[0] == own[0]
            another = inside and len(target) == 2 and len(own) == 2 and target not in (own, FAMILY)
            up = inside and len(target) == 2 and len(own) == 1
            if target[0] == "__init__" or (inside and not another and not up):
                continue
            if another or up or target[0] not in ALLOWED.get(own[0], frozenset()):
                found.append(f"{path.relative_to(package).as_posix()} -> {'.'.join(target)}")
    return found


def test_every_import_is_an_allowed_arrow() -> None:
    assert forbidden() == []


def circles(package: Path = PACKAGE) -> list[list[str]]:
    """Modules that import one another round in a circle, imports inside functions included."""
    modules = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)): path
        for path in package.rglob("*.py")
    }
    graph = {name: sorted(_named(path) & modules.keys() - {name}) for name, path in modules.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [error.args[1]]
    return []


def _named(path: Path) -> set[str]:
    """Every module that a file may import by these names: of ``from a import b`` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_module_imports_itself_round_a_circle(tmp_path: Path) -> None:
    assert circles() == []
    package = tmp_path / "detection_pack"
    package.mkdir()
    (package / "a.py").write_text("def f():\n    from detection_pack import b\n", encoding="utf-8")
    (package / "b.py").write_text("import detection_pack.a\n", encoding="utf-8")
    assert len(circles(package)) == 1


def test_every_room_has_its_arrows_and_no_arrow_leads_up() -> None:
    there = {rooms(path)[0] for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert there == set(ALLOWED)
    # The order of ALLOWED is that of the floors: whoever imports stands above what is imported.
    floors = list(ALLOWED)
    assert all(floors.index(below) < floors.index(room) for room in ALLOWED for below in ALLOWED[room])


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("model/rule.py", "from detection_pack.platforms import conversion"),
        ("model/rule.py", "from detection_pack.languages.markdown import escaped"),
        ("platforms/splunk/backend.py", "from detection_pack.platforms.elastic import backend"),
        ("platforms/splunk/backend.py", "import detection_pack.platforms.sentinel.backend"),
        ("platforms/conversion.py", "from detection_pack.platforms.splunk.backend import x"),
        ("platforms/kusto/backend.py", "from detection_pack.platforms.sentinel import imports"),
        ("build/dist.py", "def f():\n    from detection_pack.replay import verdict"),
        ("checks/attack_tags.py", "from detection_pack.diff import sides"),
    ],
)
def test_a_forbidden_import_is_noticed(tmp_path: Path, module: str, line: str) -> None:
    package = tmp_path / "detection_pack"
    for platform in ("sentinel", "kusto", "splunk", "elastic"):
        (package / "platforms" / platform).mkdir(parents=True)
    (package / module).parent.mkdir(parents=True, exist_ok=True)
    (package / module).write_text(line + "\n", encoding="utf-8")
    assert [found.split(" -> ")[0] for found in forbidden(package)] == [module]

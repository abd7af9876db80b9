"""The trap: somebody's rules under the pack's name.

The app of a folder of rules had the pack's identifier, so that Splunk replaced the one by the other, and the
pack's licence. Names are the folder's or those that are asked for, author and licence are the rule's.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from detection_pack.build.dist import Built, make_folder
from detection_pack.cli import main
from detection_pack.languages.conf import read_conf
from detection_pack.model.collection import of_folder
from detection_pack.platforms.splunk.app import read_archive

RULE = """title: Probe
{more}logsource: {{product: windows, category: process_creation}}
detection:
  s: {{Image|endswith: '\\{program}.exe'}}
  condition: s
"""
AUTHOR = "author: Ann Example\nlicense: MIT\n"
#: What the pack calls itself; `GENERATOR` says in the manifest which program wrote it.
OF_THE_PACK = (
    "remote_email_collection",
    "Remote Email Collection",
    "Detection Rule License",
    "Detection Pack",
)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "Blue Team-2"
    folder.mkdir()
    for program, more in (("a", AUTHOR), ("b", "")):
        (folder / f"rule_{program}.yml").write_text(RULE.format(program=program, more=more), encoding="utf-8")
    return folder


def app_of(built: Built) -> tuple[str, dict[str, str]]:
    [path] = [path for path in built.files if path.endswith(".tgz")]
    return path, read_archive(built.files[path])


@pytest.mark.parametrize(
    ("asked", "name", "title"),
    [((None, None), "blue_team_2", "Rules of Blue Team-2"), (("own", "Our [Own]"), "own", "Our [Own]")],
)
def test_every_file_has_the_names_of_the_folder(
    rules: Path, asked: tuple[str | None, str | None], name: str, title: str
) -> None:
    built = make_folder(ROOT, rules, collection=of_folder(rules.name, *asked))
    path, app = app_of(built)
    assert path == f"splunk/{name}-{json.loads(built.files['manifest.json'])['version']}.tgz"
    conf = read_conf(app["default/app.conf"])
    assert (conf["package"]["id"], conf["id"]["name"], conf["ui"]["label"]) == (name, name, title)
    assert f"{name}_exclusions" in read_conf(app["default/macros.conf"])
    assert f"lookups/{name}_allowlist.csv" in app
    manifest = json.loads(built.files["manifest.json"])
    assert (manifest["name"], manifest["title"]) == (name, title)
    template = json.loads(built.files["sentinel/azuredeploy/MicrosoftThreatProtection.json"])
    assert template["metadata"] == {"description": title}
    kibana = json.loads(built.files["elastic/rules.ndjson"].split(b"\n")[0])
    assert kibana["tags"][0] == title
    texts = {p: content.decode() for p, content in built.files.items() if not p.endswith(".tgz")}
    texts |= {f"{path}: {p}": text for p, text in app.items()}
    for where, text in texts.items():
        assert not [word for word in OF_THE_PACK if word in text], where


def test_author_and_licence_are_the_rules(rules: Path) -> None:
    built = make_folder(ROOT, rules)
    _, app = app_of(built)
    stated, silent = json.loads(built.files["manifest.json"])["rules"]
    assert (stated["author"], stated["license"]) == ("Ann Example", "MIT") and "license" not in silent
    first = json.loads(built.files["elastic/rules.ndjson"].splitlines()[0])
    assert (first["author"], first["license"]) == (["Ann Example"], "MIT")
    said = "by Ann Example, licence: MIT"
    assert said in yaml.safe_load(built.files["sentinel/analytics/rule_a.yaml"])["description"]
    assert said in json.loads(built.files["defender/detections/rule_a.json"])["description"]
    assert f"// {said}\n" in built.files["sentinel/queries/rule_a.kql"].decode()
    searches = read_conf(app["default/savedsearches.conf"])
    assert "by Ann Example, MIT." in searches["rule_a"]["description"]
    assert searches["rule_b"]["description"].count("by unknown.") == 1
    assert "by Ann Example, MIT\n" in app["README.md"] and "licence not stated\n" in app["README.md"]
    assert json.loads(app["app.manifest"])["info"]["license"] == {"name": "MIT", "text": None, "uri": None}


def test_several_processes_know_the_names(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / f"rule_{number}.yml"
        path.write_text(RULE.format(program=f"p{number}", more=""), encoding="utf-8")
    named = of_folder("x", "own_rules")
    together = make_folder(ROOT, tmp_path, jobs=2, collection=named)
    assert together == make_folder(ROOT, tmp_path, collection=named)


@pytest.mark.parametrize(
    "folder", ["", "2026", "Größe", "a" * 300, "remote_email_collection", "../x", "\u202e"]
)
def test_any_folder_gives_a_name(folder: str) -> None:
    named = of_folder(folder)
    assert named.name.isascii() and named.name[0].isalpha() and 3 <= len(named.name) <= 64
    assert named.name != "remote_email_collection" and named.title.strip().isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rules", "RULES", "--out", "OUT", "--name", "Own Rules"],
        ["--rules", "RULES", "--out", "OUT", "--name", "remote_email_collection"],
        ["--name", "own"],
        ["--title", "Own"],
    ],
)
def test_wrong_names_are_wrong_use(
    arguments: list[str], rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RULES": str(rules), "OUT": str(tmp_path / "out")}
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "build", *(places.get(one, one) for one in arguments)])
    assert ended.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1

"""The trap: a coverage layer that the Navigator does not open, or that counts what never alerts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from conftest import DIST, ROOT
from detection_pack.build.dist import make_folder
from detection_pack.build.navigator import PATH, Listed, layer
from detection_pack.model.attack import attack

SCHEMA = json.loads((ROOT / "tests" / "data" / "navigator_layer.schema.json").read_text(encoding="utf-8"))


def checked(found: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert found["gradient"]["maxValue"] > found["gradient"]["minValue"]
    return found


def shipped() -> dict[str, Any]:
    return checked(json.loads((DIST / PATH).read_text(encoding="utf-8")))


def test_the_layer_has_what_the_rules_are_tagged_with() -> None:
    expected: dict[str, dict[str, bool]] = {}
    for path in (ROOT / "sigma").rglob("*.yml"):
        if path.parent.name == "investigation":
            continue
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        tags = [tag for document in documents for tag in document.get("tags", ())]
        for tag in tags:
            if tag.startswith("attack.t"):
                key = tag.removeprefix("attack.").upper()
                expected.setdefault(key, {})[path.stem] = path.parent.name != "hunting"
    found = {one["techniqueID"]: one for one in shipped()["techniques"]}
    assert "T1114.002" in found and set(found) == set(expected)
    for key, one in found.items():
        assert {entry["name"] for entry in one["metadata"]} == set(expected[key])
        assert one["score"] == sum(expected[key].values())
        assert one["links"] == [
            {"label": attack().techniques[key].name, "url": attack().techniques[key].reference}
        ]


def test_its_version_is_the_one_in_use() -> None:
    assert shipped()["versions"]["attack"] == attack().version.partition(".")[0]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_hunts_do_not_score(number: int) -> None:
    rules = [Listed(f"r{n}", "Rule", "high", "core", ["T1114.002"], ["splunk"]) for n in range(number)]
    rules.append(Listed("hunt", "Hunt", "low", "hunting", ["T1114.002", "T9999", "nonsense"], ["sentinel"]))
    [one] = checked(layer("x", rules))["techniques"]
    assert one["score"] == number and len(one["metadata"]) == number + 1
    assert one["metadata"][-1] == {"name": "hunt", "value": "Hunt (hunt; Microsoft Sentinel)"}


def test_anybodys_rules_have_a_layer_of_their_own_name(tmp_path: Path) -> None:
    text = (ROOT / "sigma" / "core" / "exchange_admin_cmdlet.yml").read_text(encoding="utf-8")
    folder = tmp_path / "our_rules"
    folder.mkdir()
    (folder / "one.yml").write_text(text.replace("attack.t1114.002", "attack.t1059.001"), encoding="utf-8")
    found = checked(json.loads(make_folder(ROOT, folder).files[PATH]))
    assert found["name"] == "Rules of our_rules"
    assert "T1059.001" in [one["techniqueID"] for one in found["techniques"]]

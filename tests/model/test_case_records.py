"""The trap: a case of nested records that repeats the whole object for one part of it, or loses the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from detection_pack.model.case import Case, load_cases
from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource
from detection_pack.model.log_source_reader import load_log_source

DEFAULTS = {"at": "10.03.2026 09:15:00", "who": {"badge": "A-17", "home": {"site": "north"}}, "who.flat": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> LogSource:
    """A source of nested records whose identity is a part of an object."""
    made_up = ROOT / "tests" / "data" / "made_up_source" / "pipelines" / "door_access" / "source.yml"
    stated = yaml.safe_load(made_up.read_text(encoding="utf-8"))
    stated["records"] = {
        "identity": ["who.serial"],
        "time": {"field": "at", "format": stated["records"]["time"]["format"]},
    }
    path = tmp_path_factory.mktemp("pipelines") / "doors" / "source.yml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    return load_log_source(path)


def event(folder: Path, source: LogSource, case: dict[str, Any]) -> Event:
    [found] = loaded(folder, source, case).events
    return found


def loaded(folder: Path, source: LogSource, case: dict[str, Any]) -> Case:
    path = folder / "nested.yml"
    stated = {"rule": "nested", "defaults": DEFAULTS, "match": [{"title": "one", **case}]}
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    [one] = load_cases(path, source)
    return one


@pytest.mark.parametrize(
    ("case", "who"),
    [
        ({"record": {"who.badge": "B-2"}}, {"badge": "B-2", "home": {"site": "north"}}),
        ({"record": {"who.home.site": "south"}}, {"badge": "A-17", "home": {"site": "south"}}),
        ({"record": {"who.door": "D"}}, {"badge": "A-17", "home": {"site": "north"}, "door": "D"}),
        ({"record": {"who.badge": None}}, {"badge": None, "home": {"site": "north"}}),
        ({"absent": ["who.badge"]}, {"home": {"site": "north"}}),
        ({"absent": ["who.home.site", "who.nothing"]}, {"badge": "A-17", "home": {}}),
        ({"record": {"who": {"door": "D"}, "who.badge": "B-2"}}, {"door": "D", "badge": "B-2"}),
    ],
)
def test_a_case_changes_a_part_of_an_object(
    tmp_path: Path, source: LogSource, case: dict[str, Any], who: dict[str, Any]
) -> None:
    found = event(tmp_path, source, case)
    assert found.record["who"] == {**who, "serial": "nested-match-1"}
    assert found.id == "nested-match-1"


def test_a_flat_name_is_a_key_of_its_own(tmp_path: Path, source: LogSource) -> None:
    found = event(tmp_path, source, {"record": {"who.flat": 2, "where.is": 3, "at.x": 4}})
    assert {key: found.record[key] for key in ("who.flat", "where.is", "at.x")} == {
        "who.flat": 2,
        "where.is": 3,
        "at.x": 4,
    }


def test_an_identity_has_no_place_without_its_object(tmp_path: Path, source: LogSource) -> None:
    found = event(tmp_path, source, {"absent": ["who"]})
    assert found.id == "nested-match-1" and "who" not in found.record and "who.serial" not in found.record


def test_a_stated_identity_stands(tmp_path: Path, source: LogSource) -> None:
    assert event(tmp_path, source, {"record": {"who.serial": "s1"}}).id == "s1"


def test_whose_alert_it_is_stands_in_a_part_of_an_object(tmp_path: Path, source: LogSource) -> None:
    """Were it looked for as a key, no alert of a correlation would be any case's, and none would be wrong."""
    case = loaded(tmp_path, source, {"each": [{"who.badge": "B-2"}, {}, {"who": {}}, {"who.flat": "X"}]})
    assert case.values_of("who.badge") >= {"b-2", "a-17", ""}
    assert case.values_of("who.flat") >= {"1", "x"}


def test_whose_alert_it_is_may_be_a_named_value_of_a_list(tmp_path: Path, source: LogSource) -> None:
    """No key of the records has the name: what they hold anywhere tells whose alert it is."""
    listed = [{"name": "client", "value": "C-1"}, {"name": "scopes", "multiValue": ["S-1", "S-2"]}]
    case = loaded(tmp_path, source, {"record": {"named": listed}})
    assert {"c-1", "s-2", ""} <= case.values_of("client")

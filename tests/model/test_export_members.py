"""The trap: a list that an export spreads out is made again with one value beside another's name.

A column without its neighbours, a text that only looks like JSON, and an object where a list should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from detection_pack.model.export_form import ExportForm, is_origin, origin_columns

EACH = {"Name": "title", "Value": "new"}
LISTED = {"members": {"of": ["resources", "changes"], "each": EACH}}
NUMBERED = {"members": {"numbered": 3, "each": {"Name": "Change{n}Title", "Value": "Change{n}New"}}}
NAMED = {"members": {"named": {"Bright.Red": "doc.Bright_Red", "Blue": "doc.Blue"}, "each": {"Value": "New"}}}


def made(origin: Any, entry: Mapping[str, Any]) -> Any:
    form = ExportForm(title="form", recognise=[{}], fields={"field": origin})
    return form.record(entry).get("field")


def red(value: Any) -> list[dict[str, Any]]:
    return [{"changes": [{"title": "red", "new": value}]}]


@pytest.mark.parametrize(
    "value,said",
    [
        ('"crimson"', "crimson"),
        ('"a \\"b\\" \\u00e9"', 'a "b" é'),
        ("crimson", "crimson"),
        ('"', '"'),
        ('"a" b"', '"a" b"'),
        ('["crimson"]', '["crimson"]'),
        ("null", "null"),
        (None, ""),
        (7, "7"),
        (True, "true"),
        ({"a": "é"}, '{"a": "é"}'),
    ],
)
def test_a_value_loses_the_quotation_marks_that_make_it_json_and_no_others(value: Any, said: str) -> None:
    assert made(LISTED, {"resources": red(value)}) == [{"Name": "red", "Value": said}]


def test_lists_below_lists_are_one_list() -> None:
    blue = [{"title": "blue", "new": "x"}, {"title": "green"}]
    entry = {
        "resources": [*red("crimson"), {"changes": []}, {"changes": None}, {}, "text", {"changes": blue}]
    }
    found = [
        {"Name": "red", "Value": "crimson"},
        {"Name": "blue", "Value": "x"},
        {"Name": "green", "Value": ""},
    ]
    assert made(LISTED, entry) == found


@pytest.mark.parametrize(
    "held", [None, "", "text", "[", '{"changes": []}', "[1]", 7, {}, [], "[]", "[" * 5000, [[]]]
)
def test_what_is_no_list_makes_none(held: Any) -> None:
    assert made(LISTED, {"resources": held}) is None


def test_a_list_may_be_its_text() -> None:
    text = '[{"changes": "[{\\"title\\": \\"red\\", \\"new\\": \\"x\\"}]"}]'
    assert made(LISTED, {"resources": text}) == [{"Name": "red", "Value": "x"}]


def test_columns_with_one_number_belong_together() -> None:
    entry = {
        "Change1Title": "red",
        "Change1New": '"x"',
        "Change2Title": "",
        "Change2New": "",
        "Change3New": "y",
    }
    found = [{"Name": "red", "Value": "x"}, {"Name": "", "Value": "y"}]
    assert made(NUMBERED, entry) == found
    assert made(NUMBERED, {"Change4Title": "out"}) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"doc": {"Bright_Red": {"New": '"x"', "Old": "y"}, "Other": {"New": "z"}}},
        {"doc.Bright_Red.New": '"x"', "doc.Other.New": "z"},
    ],
)
def test_fields_of_a_name_get_it_back(entry: Mapping[str, Any]) -> None:
    # These values are nobody's JSON text.
    assert made(NAMED, entry) == [{"Name": "Bright.Red", "Value": '"x"'}]


def test_a_part_of_an_object_or_of_its_text() -> None:
    by_user, by_app = {"within": ["by", "user.name"]}, {"within": ["by", "app.id", "App_"]}
    for origin in ([by_user, by_app], [by_user, by_app, "other"]):
        assert made(origin, {"by": {"user": {"name": "a"}}}) == "a"
        assert made(origin, {"by": '{"user": {"name": ""}, "app": {"id": "7"}}'}) == "App_7"
        assert made(origin, {"by": '{"app": {"id": 7}}'}) is None
        assert made(origin, {"by": '{"app"'}) is None
    assert made([by_user, by_app, "other"], {"other": "b"}) == "b"


def test_the_columns_of_an_origin() -> None:
    assert origin_columns(LISTED) == ["resources"]
    assert len(origin_columns(NUMBERED)) == 6 and "Change3New" in origin_columns(NUMBERED)
    assert origin_columns(NAMED) == ["doc.Bright_Red", "doc.Blue"]
    assert origin_columns(["a", {"within": ["b", "c"]}]) == ["a", "b"]


@pytest.mark.parametrize(
    "origin",
    [
        {"members": {"each": EACH}},
        {"members": {"of": [], "each": EACH}},
        {"members": {"of": "resources", "each": EACH}},
        {"members": {"of": ["resources"], "each": {}}},
        {"members": {"of": ["resources"], "numbered": 3, "each": EACH}},
        {"members": {"numbered": True, "each": EACH}},
        {"members": {"numbered": 101, "each": EACH}},
        {"members": {"numbered": 0, "each": EACH}},
        {"members": {"named": {"a": 1}, "each": EACH}},
        {"members": ["resources"]},
        {"within": ["by"]},
        {"within": ["by", "a", "b", "c"]},
        {"path": ["a", "b", "c"]},
        [["a"]],
        [],
        "",
        {},
    ],
)
def test_anything_else_is_no_origin(origin: Any) -> None:
    assert not is_origin(origin)


def test_these_are_origins() -> None:
    assert all(map(is_origin, [LISTED, NUMBERED, NAMED, "a", ["a", {"within": ["b", "c"]}], {"constant": 8}]))

"""The trap: a source.yml that is read otherwise than it is meant, so that records lose their time or their
type and a rule is silent. Every fault has its line; the most specific source has the rule; a time that is
written is the time that is read."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.log_source_reader import load_log_source, load_log_sources
from detection_pack.model.record_time import RecordTime, format_fault, value_at

GOOD = """\
title: Access records
logsources: [{product: doors}, {product: doors, service: vault}]
records:
  identity: [site, serial]
  time: {field: at.when, format: epoch_ms}
fields:
  actor.email: {meaning: who}
  kind: {type: integer, enumeration: DoorKind, meaning: which way}
enumerations:
  DoorKind: {0: In, 1: Out}
simulation:
  mark: note
  ids: {serial: number}
"""

#: What stands in GOOD -> what stands there instead, the line that is to blame and a piece of the message.
FAULTS: dict[str, tuple[str, str, int, str]] = {
    "no title": ("title: Access records", "title: ''", 1, '"title" is not a text'),
    "unknown key": ("records:", "record:", 3, 'did you mean "records"?'),
    "no log source": ("[{product: doors}, {product: doors, service: vault}]", "[]", 2, "no Sigma log source"),
    "log source key": ("{product: doors},", "{produkt: doors},", 2, 'did you mean "product"?'),
    "log source of a number": ("{product: doors},", "{product: 3},", 2, "is not a Sigma log source"),
    "no identity": ("[site, serial]", "[]", 4, "names no field"),
    "identity of a mapping": ("[site, serial]", "{a: b}", 4, '"identity" is not a list'),
    "format": ("epoch_ms", "iso", 5, "is neither iso8601, epoch_s, epoch_ms nor a pattern"),
    "pattern": ("epoch_ms", "'%Q'", 5, "is not a pattern that can be read"),
    "pattern without a day": ("epoch_ms", "'%H:%M:%S'", 5, "does not say the whole time"),
    "pattern without a century": ("epoch_ms", "'%d.%m. %H:%M:%S'", 5, "does not say the whole time"),
    "type": ("type: integer", "type: whole", 8, '"whole" is not a type'),
    "enumeration": ("enumeration: DoorKind", "enumeration: DorKind", 8, 'did you mean "DoorKind"?'),
    "name twice": ("1: Out", "1: IN", 10, 'has the name of 0, "IN"'),
    "number of text": ("1: Out", "x: Out", 10, "is not a number with its name"),
    "negative": ("1: Out", "-1: Out", 10, "is not a number with its name"),
    "table elsewhere": ("{0: In, 1: Out}", "../secret.csv", 10, "is not the name of a table"),
    "no mark": ("mark: note", "mark: ''", 12, '"mark" is not a text'),
    "kind of identifier": ("serial: number", "serial: counter", 13, "is not a kind of identifier"),
    "table that is not there": ("{0: In, 1: Out}", "kinds.csv", 10, "kinds.csv cannot be read"),
}


def written(folder: Path, text: str, name: str = "doors") -> Path:
    path = folder / "pipelines" / name / "source.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def doors(tmp_path: Path) -> LogSource:
    return load_log_source(written(tmp_path, GOOD))


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_has_its_line(tmp_path: Path, case: str) -> None:
    old, new, line, said = FAULTS[case]
    assert GOOD.count(old) == 1, "the table is out of step with GOOD"
    with pytest.raises(PackError) as raised:
        load_log_source(written(tmp_path, GOOD.replace(old, new)))
    found = [(f.line, f"{f.what}; {f.todo}") for f in raised.value.findings]
    assert any(at == line and said in message for at, message in found), found
    assert all(f.path.endswith("source.yml") and f.check == "log-source" for f in raised.value.findings)


def test_every_fault_of_every_source_is_told_at_once(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace("epoch_ms", "iso").replace("type: integer", "type: whole"), "one")
    written(tmp_path, GOOD.replace("title: Access records", "title: ''"), "two")
    with pytest.raises(PackError) as raised:
        load_log_sources(tmp_path)
    found = sorted((Path(f.path).parent.name, f.line) for f in raised.value.findings)
    assert found == [("one", 5), ("one", 8), ("two", 1)]


def test_two_sources_of_one_log_source_are_a_fault(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "one")
    written(tmp_path, GOOD, "two")
    with pytest.raises(PackError, match=r"two/source.yml:2: serves a Sigma log source that one serves, too"):
        load_log_sources(tmp_path)


def test_a_changed_table_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("{0: In, 1: Out}", "kinds.csv"))
    table = path.with_name("kinds.csv")
    table.write_text("value,name\n0,In\n", encoding="utf-8")
    assert load_log_source(path).enumerations == {"DoorKind": {0: "In"}}
    table.write_text("value,name\n0,In\n7,Sideways\n", encoding="utf-8")
    assert load_log_source(path).enumerations == {"DoorKind": {0: "In", 7: "Sideways"}}
    table.write_text("value,name\nIn,0\n", encoding="utf-8")
    with pytest.raises(PackError, match="is not a number with its name"):
        load_log_source(path)


# ---- which source has a rule ------------------------------------------------------------------------

BELONGS: list[tuple[dict[str, str], str | None]] = [
    ({"product": "doors"}, "doors"),
    ({"product": "doors", "service": "lobby"}, "doors"),
    ({"product": "doors", "category": "x"}, "doors"),
    ({"product": "doors", "service": "safe"}, "safe"),
    ({"product": "doors", "service": "safe", "category": "x"}, "safe"),
    ({"service": "safe"}, None),
    ({"product": "windows"}, None),
    ({}, None),
    # Two sources that say as much of it: neither may have it by chance.
    ({"product": "doors", "service": "vault", "category": "night"}, None),
]


@pytest.mark.parametrize(("stated", "name"), BELONGS)
@pytest.mark.parametrize("turned", [False, True])
def test_the_most_specific_source_has_the_rule(
    tmp_path: Path, stated: dict[str, str], name: str | None, turned: bool
) -> None:
    written(tmp_path, GOOD, "doors")
    for other, pairs in (
        ("safe", "[{product: doors, service: safe}]"),
        ("night", "[{product: doors, category: night}]"),
    ):
        text = GOOD.replace("[{product: doors}, {product: doors, service: vault}]", pairs)
        written(tmp_path, text, other)
    listed = list(load_log_sources(tmp_path).values())
    found = source_of(listed[::-1] if turned else listed, stated)
    assert (found.name if found else None) == name


# ---- records ----------------------------------------------------------------------------------------


def test_identity_time_and_enumeration_of_a_nested_record(doors: LogSource) -> None:
    record = {"site": "north", "serial": 7, "at": {"when": 1767225600123}, "kind": "out", "": "x"}
    assert doors.identity_of(record) == "north/7"
    assert doors.identity_of({"serial": 7}) == "7"
    assert doors.identity_of({"site": ""}) is None
    assert doors.time.of(record) == datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)
    assert doors.as_written(record) == {
        "site": "north",
        "serial": 7,
        "at": {"when": 1767225600123},
        "kind": 1,
    }
    assert record["kind"] == "out", "the record itself stays as it is"


def test_a_nested_enumeration_leaves_the_record_alone(tmp_path: Path) -> None:
    source = load_log_source(written(tmp_path, GOOD.replace("  kind:", "  door.kind:")))
    record: dict[str, Any] = {"door": {"kind": "In", "no": 4}}
    assert source.as_written(record) == {"door": {"kind": 0, "no": 4}}
    assert record == {"door": {"kind": "In", "no": 4}}
    assert source.as_written({"door.kind": "1"}) == {"door.kind": 1}
    assert source.as_written({"door": "shut"}) == {"door": "shut"}
    assert source.as_written({"door": {"kind": "sideways"}}) == {"door": {"kind": "sideways"}}


def test_value_at_takes_a_flat_name_before_a_path() -> None:
    assert value_at({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert value_at({"a": {"b.c": 3}}, "a.b.c") == 3
    assert value_at({"a": [1]}, "a.b") is None


MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))
#: Format -> what it keeps of a time.
FORMATS = {
    "iso8601": timedelta(microseconds=1),
    "epoch_ms": timedelta(milliseconds=1),
    "epoch_s": timedelta(seconds=1),
    "%d.%m.%Y %H:%M:%S": timedelta(seconds=1),
    "%Y-%m-%dT%H:%M:%S.%f%z": timedelta(microseconds=1),
    "%b %d %Y %I:%M:%S %p": timedelta(seconds=1),
}


@pytest.mark.parametrize("written_as", FORMATS)
@given(moment=MOMENTS)
def test_a_time_that_is_written_is_the_time_that_is_read(written_as: str, moment: datetime) -> None:
    kept = datetime(1970, 1, 1, tzinfo=UTC)
    moment = kept + (moment - kept) // FORMATS[written_as] * FORMATS[written_as]
    assert format_fault(written_as) is None
    time = RecordTime("t", written_as)
    assert time.of({"t": time.written(moment)}) == moment
    if not written_as.startswith("epoch") and "%z" not in written_as and written_as != "iso8601":
        assert time.of({"t": moment.strftime(written_as)}) == moment


@given(offset=st.integers(-14 * 60, 14 * 60), moment=MOMENTS)
def test_an_offset_is_heeded(offset: int, moment: datetime) -> None:
    sign, (hours, minutes) = ("-" if offset < 0 else "+"), divmod(abs(offset), 60)
    local = (moment + timedelta(minutes=offset)).replace(tzinfo=None)
    text = f"{local.isoformat()}{sign}{hours:02}:{minutes:02}"
    assert RecordTime("t", "iso8601").of({"t": text}) == moment
    assert RecordTime("t", "%Y-%m-%dT%H:%M:%S%z").of({"t": text.replace(text[19:-6], "")}) == moment.replace(
        microsecond=0
    )


@pytest.mark.parametrize(
    "value", [None, "", "yesterday", [], {}, True, -1, "1e9", 1e300, 10**16, "12:00", float("nan")]
)
@pytest.mark.parametrize("written_as", FORMATS)
def test_what_is_no_time_is_none(written_as: str, value: object) -> None:
    assert RecordTime("t", written_as).of({"t": value}) is None


def test_seconds_may_have_a_fraction() -> None:
    time = RecordTime("t", "epoch_s")
    assert time.of({"t": 1767225600.25}) == datetime(2026, 1, 1, 0, 0, 0, 250000, tzinfo=UTC)
    assert time.of({"t": "1767225600.25"}) == datetime(2026, 1, 1, 0, 0, 0, 250000, tzinfo=UTC)


# ---- the pack's own ---------------------------------------------------------------------------------


def test_the_packs_sources_are_read_and_agree_with_their_tables() -> None:
    sources = load_log_sources(ROOT)
    assert len(sources) >= 2
    for source in sources.values():
        assert source.title and source.logsources and source.fields
        assert source.time.field in source.fields
        assert set(source.identity) <= set(source.fields)
        alert = source.alert
        assert {f for f in (alert.user, alert.source, alert.agent, alert.extra) if f} <= set(source.fields)
        if (known := source.known_values) is not None:
            assert {known.field, known.by} <= set(source.fields)
            enumeration = source.enumerations[source.fields[known.by].enumeration or ""]
            rows = source.table(known.table)
            listed = {one for row in rows for one in row["types"].split()}
            assert listed and listed <= set(enumeration.values())
        if (never := source.never_held) is not None:
            enumeration = source.enumerations[source.fields[never.by].enumeration or ""]
            assert set(never.fields) <= {str(number) for number in enumeration}
            assert {f for fields in never.fields.values() for f in fields} <= set(source.fields)


def test_a_source_in_a_copy_is_another_object(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    for name, source in load_log_sources(ROOT).items():
        assert load_log_sources(ROOT)[name] is source
        assert load_log_sources(tmp_path)[name] is not source


def test_exported_forms_are_plain_yaml() -> None:
    """A source.yml is YAML that any reader reads alike: no alias, no tag."""
    for path in (ROOT / "pipelines").glob("*/source.yml"):
        text = path.read_text(encoding="utf-8")
        assert not [t for t in yaml.scan(text) if isinstance(t, yaml.AliasToken | yaml.TagToken)]

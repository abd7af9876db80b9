"""The trap: an ingest model is SQL that anybody may bring, and SQL can read files, load extensions and change
settings. Whatever it tries is refused with its file, and no other log source suffers."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.platforms.elastic.documents import ingested
from detection_pack.platforms.kusto.run import Workspace as Kusto
from detection_pack.platforms.records import connected, known_sources, records_of
from detection_pack.platforms.rows import ingest
from detection_pack.platforms.splunk.run import Workspace as Splunk
from support.sources import M365, PROCESS, SOURCES

SECRET = "not-for-strangers"
#: What a model tries; ``{secret}`` is a file with a secret in it.
ATTEMPTS = {
    "a CSV file": "CREATE TABLE t AS SELECT * FROM '{secret}'",
    "a text": "CREATE TABLE t AS SELECT content FROM read_text('{secret}')",
    "a folder": "CREATE TABLE t AS SELECT * FROM glob('/*')",
    "a database": "ATTACH '{folder}/other.db'",
    "a copy": "COPY (SELECT 1) TO '{folder}/out.csv'",
    "an export": "EXPORT DATABASE '{folder}/out'",
    "an extension": "INSTALL httpfs",
    "a loaded extension": "LOAD httpfs",
    "another zone": "SET TimeZone = 'Asia/Tokyo'",
    "external access": "SET enable_external_access = true",
    "the lock": "SET lock_configuration = false",
    # It would be seen before what other sources' models have of the same name.
    "another's macro": "CREATE OR REPLACE TEMP MACRO as_text(json) AS 'nothing'",
}


def source_with(folder: Path, platform: str, sql: str) -> LogSource:
    folder.mkdir()
    (folder / f"{platform}.sql").write_text(f"-- first\n-- second\n{sql};\n", encoding="utf-8")
    return dataclasses.replace(PROCESS, name="stranger", folder=folder)


@pytest.mark.parametrize("case", ATTEMPTS)
@pytest.mark.parametrize("platform", ["sentinel", "splunk", "elastic"])
def test_a_model_reaches_nothing_outside(tmp_path: Path, case: str, platform: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(f"a\n{SECRET}\n", encoding="utf-8")
    sql = ATTEMPTS[case].format(secret=secret, folder=tmp_path)
    source = source_with(tmp_path / "stranger", platform, sql)
    before = sorted(tmp_path.iterdir())
    run = {"sentinel": Kusto, "splunk": Splunk, "elastic": ingested}[platform]
    with pytest.raises(PackError) as raised:
        run([Event("e", source, {"EventID": 1})], sources=[source])  # type: ignore[operator]
    [finding] = raised.value.findings
    assert finding.path == str(tmp_path / "stranger" / f"{platform}.sql")
    assert SECRET not in str(finding)
    assert sorted(tmp_path.iterdir()) == before


def test_a_fault_has_its_line(tmp_path: Path) -> None:
    source = source_with(tmp_path / "stranger", "splunk", "SELECT nope FROM raw")
    with pytest.raises(PackError, match=r"splunk\.sql:3: .*nope"):
        Splunk([Event("e", source, {"EventID": 1})], sources=[source])


def test_a_query_cannot_read_files_either(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(f"a\n{SECRET}\n", encoding="utf-8")
    for connection in (Kusto([]).connection, Splunk([]).connection, connected()):
        with pytest.raises(duckdb.Error):
            connection.execute(f"SELECT * FROM read_csv('{secret}')").fetchall()
        with pytest.raises(duckdb.Error):
            connection.execute("SET enable_external_access = true")


def test_each_source_sees_its_own_records_and_enumerations_alone(tmp_path: Path) -> None:
    sql = (
        "INSERT INTO seen BY NAME SELECT (SELECT list(_id) FROM raw) AS ids,"
        " (SELECT count(*) FROM enums) AS named"
    )
    source = source_with(tmp_path / "stranger", "none", sql)
    audit = Event("a", M365, {"Id": "a", "CreationTime": "2026-03-10T09:15:00", "RecordType": 2})
    own = Event("p", source, {"UtcTime": "2026-03-10 09:15:00", "Image": "x.exe"})
    records = records_of([audit, own])
    cursor = records.cursor()
    [view] = ingest(cursor, "none", records)["seen"]
    assert cursor.execute(f"SELECT ids, named FROM {view}").fetchall() == [(["p"], 0)]


def test_each_source_has_its_own_macros_and_views(tmp_path: Path) -> None:
    sql = (
        "CREATE OR REPLACE MACRO as_text(json) AS '{0}';"
        " CREATE VIEW mine AS SELECT _id, as_text(1) AS said FROM raw;"
        " INSERT INTO seen BY NAME SELECT * FROM mine"
    )
    sources = [
        dataclasses.replace(source_with(tmp_path / name, "none", sql.format(name)), name=name)
        for name in ("one", "other")
    ]
    events = [Event(source.name, source, {"UtcTime": "2026-03-10 09:15:00"}) for source in sources]
    records = records_of(events)
    cursor = records.cursor()
    views = ingest(cursor, "none", records)["seen"]
    assert [cursor.execute(f"FROM {view}").fetchall() for view in views] == [
        [("one", "one")],
        [("other", "other")],
    ]


def test_a_table_of_two_sources_has_the_rows_of_both() -> None:
    audit = Event("a", M365, {"CreationTime": "2026-03-10T09:15:00", "UserId": "a@b.c"})
    start = Event("p", PROCESS, {"UtcTime": "2026-03-10 09:15:00", "Image": "x.exe"})
    workspace = Kusto([audit, start], schema="defender")
    for table in ("CloudAppEvents", "DeviceProcessEvents"):
        assert workspace.connection.execute(f"SELECT count(*) FROM {table}").fetchall() == [(1,)]


def test_a_record_without_a_time_is_there_without_one() -> None:
    event = Event("p", PROCESS, {"UtcTime": "yesterday", "Image": "x.exe"})
    cursor = records_of([event]).cursor()
    assert cursor.execute("SELECT _id, _time FROM raw_process_creation").fetchall() == [("p", None)]
    for schema in ("sentinel", "defender"):
        count = Kusto([event], schema=schema).connection.execute("SELECT count(*) FROM DeviceProcessEvents")
        assert count.fetchall() == [(0,)]


def test_known_sources_are_each_there_once() -> None:
    event = Event("p", PROCESS, {})
    assert known_sources([event, event]) == (PROCESS,)
    assert known_sources([event], SOURCES.values()) == tuple(SOURCES.values())


def test_without_any_source_there_is_nothing_to_find() -> None:
    assert ingested([]) == []
    assert Splunk([]).search("*", {}, datetime(2026, 3, 10, tzinfo=UTC)) == []

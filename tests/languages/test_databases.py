"""The trap: a query out of a dist folder that reads a file, or that takes all memory of the machine."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from detection_pack.languages import databases
from detection_pack.languages.databases import database, insert_rows, literal


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('{}')",
        "SELECT * FROM '{}'",
        "COPY (SELECT 1) TO '{}.copy'",
        "ATTACH '{}.db'",
        "INSTALL httpfs",
        "LOAD '{}'",
        "SET enable_external_access = true",
        "SET memory_limit = '1TB'",
        "SET lock_configuration = false",
    ],
)
def test_nothing_leaves_the_database(statement: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n", encoding="utf-8")
    with database() as connection, pytest.raises(duckdb.Error):
        connection.execute(statement.format(secret))
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_what_does_not_fit_in_memory_is_spilled_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "MEMORY", "60MB")
    with database() as connection:
        [(folder,)] = connection.execute("SELECT current_setting('temp_directory')").fetchall()
        connection.execute(
            "CREATE TABLE held AS SELECT i, repeat('x', 90) || i AS text FROM range(1500000) AS t(i)"
        )
        assert connection.execute("SELECT count(DISTINCT text) FROM held").fetchall() == [(1_500_000,)]
        assert any(Path(folder).iterdir())
    assert not Path(folder).exists()


def test_text_stands_in_a_literal_as_it_is() -> None:
    texts = ["", "'", "''", "a'b", "\\", "\0", "'\0'", "-- x\n", "\U0001f600", "$1 ? {}"]
    with database() as connection:
        connection.execute("CREATE TABLE held(text VARCHAR)")
        insert_rows(connection, "held", ("VARCHAR",), [(text,) for text in texts])
        for text in texts:
            found = connection.execute(f"SELECT text FROM held WHERE text = {literal(text)}").fetchall()
            assert found == [(text,)]

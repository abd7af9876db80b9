"""The trap: two readers of one export that do not say the same.

The clean rows of a file are read by one statement of SQL, everything else an entry at a time. Random records,
clean and odd, go through every form and encoding: both readers must give what the records say.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from detection_pack.model.event import plain_record
from detection_pack.platforms.records import ID, quoted
from detection_pack.replay.export_file import ExportFile
from detection_pack.replay.json_values import Entry
from detection_pack.replay.loading import Loader
from detection_pack.replay.matching import Match
from detection_pack.replay.reading import Reading, read
from support.sources import M365, SOURCES

KEYS = frozenset(
    ["CreationTime", "RecordType", "Operation", "UserId", "LogonType", "Parameters", "ExternalAccess", "Odd"]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.sampled_from(
    [
        *(
            "2024-05-01T10:00:00",
            "2024-05-01 10:00:00",
            "2024-05-01T10:00:00Z",
            "2024-05-01T10:00:00.1234567Z",
        ),
        *("2024-05-01T10:00:00+02:00", "2024-05-01T10:00:00.000", "2024-05-01", "2024-05-01 10:00+00"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "CreationTime": TIMES,
            "RecordType": st.sampled_from([1, 2, 50, 9999, "ExchangeItem", "2", 1.0, "nothing"]),
            "Operation": TEXT.filter(bool),
        },
        optional={
            "UserId": TEXT,
            "LogonType": st.sampled_from([0, 2, "Owner", "delegated", 1.0, None, "x"]),
            "Parameters": st.lists(st.fixed_dictionaries({"Name": TEXT, "Value": VALUES}), max_size=3) | TEXT,
            "ExternalAccess": st.booleans(),
            "Odd": VALUES,
            "value": VALUES,
            "odd": VALUES,
        },
    ),
    min_size=1,
    max_size=6,
)


def numbered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "Id": f"r{number}"} for number, record in enumerate(records)]


def rows_of(records: list[dict[str, Any]], separator: str, start: str = "") -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n")
    writer.writerow(["RecordType", "CreationDate", "Operations", "AuditData", "Identity"])
    for record in records:
        writer.writerow(["x", "5/1/2024 10:00:00 AM", "a\nb", json.dumps(record), record["Id"]])
    return start + out.getvalue()


def wrapped(key: str, text: bool) -> Callable[[list[dict[str, Any]]], str]:
    return lambda records: "".join(
        json.dumps({key: json.dumps(record) if text else record, "ResultIndex": 1}) + "\n"
        for record in records
    )


FORMS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "lines": lambda records: "".join(json.dumps(one) + "\n" for one in records),
    "unescaped lines": lambda records: "\r\n".join(json.dumps(one, ensure_ascii=False) for one in records),
    "array": json.dumps,
    "pretty array": lambda records: json.dumps(records, indent=2),
    "arrays": lambda records: "\n".join(json.dumps([one]) for one in records),
    "pretty objects": lambda records: "\n".join(json.dumps(one, indent="\t") for one in records),
    "objects in a row": lambda records: "".join(json.dumps(one) for one in records),
    "value": lambda records: json.dumps({"@odata.context": "x", "value": records}),
    "records": lambda records: "\n".join(json.dumps({"records": [one]}) for one in records),
    "csv": lambda records: rows_of(records, ","),
    "semicolons": lambda records: rows_of(records, ";"),
    "tabs": lambda records: rows_of(records, "\t", "#TYPE x\r\n"),
    "sep": lambda records: rows_of(records, "|", "sep=|\r\n"),
    "AuditData": wrapped("AuditData", text=True),
    "auditData": wrapped("auditData", text=False),
    "RawEventData": wrapped("RawEventData", text=False),
    "_source": wrapped("_source", text=False),
    "result": wrapped("result", text=False),
    "_raw": wrapped("_raw", text=True),
    "properties": wrapped("properties", text=False),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")


def written(folder: Path, text: str, encoding: str, packed: str) -> Path:
    data, path = text.encode(encoding), folder / "export"
    if packed == "gzip":
        data = gzip.compress(data)
    elif packed == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../export", data)
        data = buffer.getvalue()
    path.write_bytes(data)
    return path


def said(reading: Reading) -> dict[str, dict[str, Any]]:
    table = reading.records.tables["m365"]
    columns = ", ".join(quoted(column) for column in table.columns.values())
    rows = reading.records.cursor().execute(f"SELECT {ID}, {columns} FROM {table.name}").fetchall()
    return {
        row[0]: {k: json.loads(v) for k, v in zip(table.columns, row[1:], strict=True) if v is not None}
        for row in rows
    }


def expected(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    plain = {
        one["Id"]: M365.as_written(plain_record(one)) for one in records if M365.time.of(one) is not None
    }
    return {name: {key: one[key] for key in KEYS if one.get(key) is not None} for name, one in plain.items()}


@pytest.mark.parametrize("form", FORMS)
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    records=RECORDS.map(numbered),
    encoding=st.sampled_from(ENCODINGS),
    packed=st.sampled_from(["no", "gzip", "zip"]),
)
def test_every_form_gives_the_records(
    tmp_path: Path, form: str, records: list[dict[str, Any]], encoding: str, packed: str
) -> None:
    if form == "unescaped lines" and encoding.startswith("utf-16-"):
        encoding = "utf-16"  # without a mark, text that is not mostly ASCII cannot be told
    wanted = expected(records)
    path = written(tmp_path, FORMS[form](records), encoding, packed)
    with read([path], SOURCES, {"m365": KEYS}) as reading:
        assert said(reading) == wanted
        assert reading.skipped.count == len(records) - len(wanted)
        for name, one in wanted.items():
            found = reading.record("m365", name)
            assert found is not None
            assert {key: found.record[key] for key in one} == one


@pytest.mark.parametrize("form", ["lines", "csv", "semicolons", "tabs", "AuditData", "RawEventData"])
def test_clean_rows_are_read_at_once(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = []
    real = Loader._match

    def counted(self: Loader, file: ExportFile, entry: Entry) -> Match | None:
        one_by_one.append(entry)
        return real(self, file, entry)

    monkeypatch.setattr(Loader, "_match", counted)
    record = {"CreationTime": "2024-05-01T10:00:00", "RecordType": 2, "Operation": "Create"}
    records = numbered([record] * 30)
    records[3]["CreationTime"] = "2024-05-01T10:00:00+02:00"
    path = written(tmp_path, FORMS[form](records), "utf-8", "no")
    with read([path], SOURCES, {"m365": KEYS}) as reading:
        assert len(said(reading)) == 30
    assert len(one_by_one) == 1


@pytest.mark.parametrize("form", ["lines", "AuditData", "RawEventData"])
def test_records_of_several_sources_in_one_file(tmp_path: Path, form: str) -> None:
    """Most rows of an export of the unified audit log are of one source; the others are not of it, too."""
    plain = {"CreationTime": "2024-05-01T10:00:00", "RecordType": 2, "Operation": "Create", "UserId": "a"}
    others = [
        plain | {"RecordType": 24, "Operation": "SearchExported", "Workload": "SecurityComplianceCenter"},
        plain | {"RecordType": 47, "Operation": "AdminMailAccess", "Workload": "SecurityComplianceCenter"},
        plain | {"RecordType": 261, "Operation": "CopilotInteraction", "Workload": "Copilot"},
        plain | {"RecordType": 8, "Operation": "Consent to application.", "Workload": "AzureActiveDirectory"},
    ]
    records = numbered([plain | {"Workload": "Exchange"}] * 30 + others)
    path = written(tmp_path, FORMS[form](records), "utf-8", "no")
    wanted = {
        "m365": KEYS,
        "compliance_audit": frozenset(["Operation"]),
        "directory_audit": frozenset(["Operation"]),
    }
    with read([path], SOURCES, wanted) as reading:
        counts: dict[str, int] = {}
        for (source, _), number in reading.counts.items():
            counts[source] = counts.get(source, 0) + number
    assert counts == {"m365": 30, "compliance_audit": 3, "directory_audit": 1}

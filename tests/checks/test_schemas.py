"""The trap: a schema that marks a sound rule in the editor, or that knows other words than the checks do.

An editor sees form alone: of the planted faults it finds those in ``SEEN``. The rest need what only
`validate` knows: fields, values, platforms, other files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sigma.correlations import SigmaCorrelationType
from sigma.modifiers import modifier_mapping
from sigma.rule import SigmaLevel, SigmaStatus

from conftest import ROOT
from detection_pack.model import case, own_keys
from detection_pack.model.documents import load_documents
from detection_pack.model.findings import PackError
from detection_pack.model.platform_names import PLATFORMS
from support.messages import all_faults

SCHEMAS = {
    kind: json.loads((ROOT / "schemas" / f"{kind}.schema.json").read_text(encoding="utf-8"))
    for kind in ("rule", "events")
}
VALIDATORS = {kind: jsonschema.Draft7Validator(schema) for kind, schema in SCHEMAS.items()}
SEEN = """
a filter; two rules; an unknown modifier; a value that is a mapping; no condition; an empty selection;
no status of Sigma; no date; no level of Sigma; no id of Sigma; no title; no log source; a tag without a dot;
an unknown correlation; no time span; no confidence; an unknown column; no detail; no look-back;
windows of another kind; half a threshold; an unknown key of a case; a case without a title
"""


def faults(kind: str, path: Path, text: str | None = None) -> list[str]:
    """What an editor marks; a file that is no YAML is its parser's business."""
    documents = load_documents(path, text)
    return [error.message for one in documents for error in VALIDATORS[kind].iter_errors(one.data)]


def kind_of(file: str) -> str | None:
    return {"sigma": "rule", "tests": "events"}.get(file.split("/", maxsplit=1)[0])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_file_of_the_pack_is_valid(kind: str) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMAS[kind])
    folder = ROOT / {"rule": "sigma", "events": "tests/events"}[kind]
    paths = sorted(folder.rglob("*.yml"))
    assert len(paths) > 50
    assert {str(path): found for path in paths if (found := faults(kind, path))} == {}


def test_the_schema_sees_the_faults_of_form_and_no_others() -> None:
    seen = set()
    for name, fault in all_faults().items():
        if (kind := kind_of(fault.file)) is None:
            continue
        path = ROOT / fault.file
        text = path.read_text(encoding="utf-8").replace(fault.old, fault.new, 1)
        try:
            found = faults(kind, path, text)
        except PackError:
            continue
        seen |= {name} if found else set()
    assert seen == {name.strip() for name in SEEN.replace("\n", " ").split(";")} - {""}


def test_the_schemas_know_what_the_checks_know() -> None:
    rule, events = (SCHEMAS[kind]["properties"] for kind in ("rule", "events"))
    assert set(rule["alert"]["properties"]) == set(own_keys._KEYS)
    assert rule["absent"]["propertyNames"]["enum"] == sorted(PLATFORMS)
    assert set(events) == case._FILE_KEYS
    stated: dict[str, Any] = SCHEMAS["events"]["definitions"]["case"]["properties"]
    assert set(stated) == case._CASE_KEYS
    assert set(stated["except"]["properties"]) == {*PLATFORMS, case.THRESHOLD, "why"}
    for names, members in (
        (rule["status"]["enum"], SigmaStatus),
        (rule["level"]["enum"], SigmaLevel),
        (rule["correlation"]["properties"]["type"]["enum"], SigmaCorrelationType),
    ):
        assert names == [member.name.lower() for member in members]
    pattern = SCHEMAS["rule"]["definitions"]["fields"]["propertyNames"]["pattern"]
    assert pattern == f"^[^|]*(\\|({'|'.join(sorted(modifier_mapping))}))*$"


def test_every_key_is_described_for_the_editor() -> None:
    for schema in SCHEMAS.values():
        undescribed = {key for key, one in schema["properties"].items() if "description" not in one}
        assert undescribed <= {"logsource"}  # a reference, to what is described

"""The trap: a short form of a source's pipeline that is written out to something else, or dropped without a
word, so that a rule is converted with half an enumeration. What is written out is plain pySigma; every fault
has the file and the line of its item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule

from detection_pack.model import pipeline_document
from detection_pack.model.documents import Document
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pipeline import load_pipeline, load_pipelines
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.record_time import RecordTime
from detection_pack.model.source_pipeline import source_file

SOURCE = """\
title: Doors
logsources: [{product: doors}]
records:
  identity: [id]
  time: {field: at, format: epoch_ms}
enumerations:
  Door: {0: In, 1: Out}
"""
COMMON = """\
transformations:
  - id: kinds
    type: map_string
    field_name_conditions: [{type: include_fields, fields: [kind]}]
    mapping: {enumeration: Door, to: number}
"""
OWN = """\
transformations:
  - id: fields
    type: field_name_mapping
    mapping: {who: actor}
    same: [kind, door]
  - id: some
    type: detection_item_failure
    message: "no such door"
    field_name_conditions: [{type: include_fields, fields: [door]}]
    detection_item_conditions: [{type: match_string, cond: any, negate: true, pattern: {enumeration: Door}}]
"""


def pack(root: Path, **files: str) -> Path:
    """A pack whose one log source has these files, and every platform's own."""
    folder = root / "pipelines" / "doors"
    folder.mkdir(parents=True, exist_ok=True)
    texts = dict.fromkeys((*PLATFORMS, "defender"), OWN) | {"source": SOURCE, "common": COMMON} | files
    for name, text in texts.items():
        (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    return root


def written_out(root: Path, name: str, platform: str = "splunk") -> dict[str, Any]:
    items = load_pipelines(root)[platform].document.data["transformations"]
    found: dict[str, Any] = next(item for item in items if item["id"] == name)
    return found


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("number", {"0": "0", "In": "0", "1": "1", "Out": "1"}),
        ("name", {"0": "In", "In": "In", "1": "Out", "Out": "Out"}),
        ("both", {"0": ["In", "0"], "In": ["In", "0"], "1": ["Out", "1"], "Out": ["Out", "1"]}),
    ],
)
def test_the_forms_of_an_enumeration(tmp_path: Path, to: str, expected: dict[str, Any]) -> None:
    form = f"{{enumeration: Door, to: {to}, extra: {{Exit: x}}}}"
    root = pack(tmp_path, common=COMMON.replace("{enumeration: Door, to: number}", form))
    assert written_out(root, "doors_kinds")["mapping"] == expected | {"Exit": "x"}


def test_names_that_are_the_same_and_an_expression_of_names(tmp_path: Path) -> None:
    root = pack(tmp_path, source=SOURCE.replace("Out", '"O.t"'))
    mapped = written_out(root, "doors_fields")
    assert mapped["mapping"] == {"who": "actor", "kind": "kind", "door": "door"} and "same" not in mapped
    [condition] = written_out(root, "doors_some")["detection_item_conditions"]
    assert condition["pattern"] == r"(?:In|O\.t)\Z"


def test_what_a_pipeline_refuses_is_no_value_that_it_knows(tmp_path: Path) -> None:
    """A value that is known is one that comes through: through several tables, and past a failure."""
    two = """\
  - id: again
    type: map_string
    field_name_conditions: [{type: include_fields, fields: [kind]}]
    mapping: {"0": Inside, Aside: Aside}
  - id: lost
    type: detection_item_failure
    message: "lost"
    field_name_conditions: [{type: include_fields, fields: [kind]}]
    detection_item_conditions: [{type: match_string, cond: any, pattern: '[0-9]+'}]
"""
    rule = SigmaRule.from_yaml(
        "{title: T, logsource: {product: doors}, detection: {s: {kind: x}, condition: s}}"
    )
    pipelines = load_pipelines(pack(tmp_path, splunk=OWN + two))
    assert pipelines["splunk"].enumerations(rule)["kind"] == {"0", "In", "Aside"}
    assert pipelines["elastic"].enumerations(rule)["kind"] == {"0", "In", "1", "Out"}


#: What stands in a file -> what stands there instead, the line that is to blame and a piece of the message.
FAULTS: dict[str, tuple[str, str, str, int, str]] = {
    "unknown enumeration": (
        "common",
        "Door,",
        "Dor,",
        5,
        'enumeration "Dor" is unknown; write it in source.yml',
    ),
    "no form": ("common", ", to: number", "", 5, "has no form"),
    "another form": ("common", "to: number", "to: hex", 5, "write one of number, name, both"),
    "another key": ("common", "to: number", "to: number, of: x", 5, 'uses "of"'),
    "extra of a list": ("common", "to: number", "to: number, extra: [x]", 5, "is not a mapping"),
    "a pattern of none": ("splunk", "{enumeration: Door}", "{enumeration: X}", 10, '"X" is unknown'),
    "same of a text": ("splunk", "[kind, door]", "kind", 5, "is not a list of texts"),
    "same twice": ("splunk", "[kind, door]", "[kind, kind]", 5, 'maps the field "kind" again'),
    "same and mapped": ("splunk", "[kind, door]", "[who]", 5, 'maps the field "who" again'),
    "mapping of a text": ("splunk", "mapping: {who: actor}", "mapping: x", 4, "does not map to texts"),
    "an id twice": ("splunk", "id: some", "id: fields", 6, 'the id "fields" is that of another item'),
    "an id of another file": ("splunk", "id: some", "id: kinds", 6, "is that of an item of another file"),
    "a strange id": ("splunk", "id: some", "id: 'a b'", 6, "is not a name"),
    "priority": (
        "splunk",
        "transformations:",
        "priority: high\ntransformations:",
        1,
        "is not a whole number",
    ),
    "backends": ("common", "transformations:", "allowed_backends: 5\ntransformations:", 1, "is not a list"),
    "another log source": (
        "common",
        "    mapping",
        "    rule_conditions: [{type: logsource, product: cars}]\n    mapping",
        5,
        "asks for a log source that this folder does not serve",
    ),
    "what reaches out": (
        "splunk",
        "  - id: some\n    type: detection_item_failure\n    message:",
        "  - id: some\n    type: file_placeholders\n    path:",
        7,
        "file_placeholders",
    ),
    "two documents": ("common", "transformations:", "a: b\n---\ntransformations:", 1, "is not one pipeline"),
    "a state of another shape": (
        "splunk",
        "transformations:",
        "transformations:\n  - {type: set_state, key: macros, val: {m: {definition: x}}}",
        2,
        'the state "macros" is not a mapping',
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_has_the_file_and_the_line_of_its_item(
    tmp_path: Path, fault: tuple[str, str, str, int, str]
) -> None:
    file, old, new, line, said = fault
    text = {"common": COMMON, "splunk": OWN}[file]
    assert text.count(old) == 1
    root = pack(tmp_path, **{file: text.replace(old, new)})
    with pytest.raises(PackError) as refusal:
        load_pipelines(root)
    assert {f.line for f in refusal.value.findings} == {line}, refusal.value
    assert {f.path for f in refusal.value.findings} == {str(root / f"pipelines/doors/{file}.yml")}
    assert all(said in str(f) for f in refusal.value.findings), refusal.value
    assert len(refusal.value.findings) == 1  # once, however many platforms read the file
    collected: list[Any] = []
    rest = load_pipelines(root, collected)
    assert collected == list(refusal.value.findings)
    assert set(rest) == (set() if file == "common" else {"sentinel", "elastic", "defender"})


def test_files_that_no_log_source_reads_are_named(tmp_path: Path) -> None:
    root = pack(tmp_path)
    (root / "pipelines" / "splunk.yml").write_text(OWN, encoding="utf-8")
    (root / "pipelines" / "cars").mkdir()
    (root / "pipelines" / "cars" / "elastic.yml").write_text(OWN, encoding="utf-8")
    with pytest.raises(PackError) as refusal:
        load_pipelines(root)
    named = {Path(f.path).relative_to(root).as_posix() for f in refusal.value.findings}
    assert named == {"pipelines/splunk.yml", "pipelines/cars/elastic.yml"}


def test_a_platform_that_no_log_source_has_and_a_pack_without_any(tmp_path: Path) -> None:
    root = pack(tmp_path)
    (root / "pipelines" / "doors" / "elastic.yml").unlink()
    with pytest.raises(PackError, match='no log source has a file for "elastic"'):
        load_pipelines(root)
    with pytest.raises(PackError, match="holds no log source"):
        load_pipelines(tmp_path / "none")


def test_a_source_without_a_file_for_a_platform_is_unknown_there(tmp_path: Path) -> None:
    root = pack(tmp_path)
    other = root / "pipelines" / "cars"
    other.mkdir()
    (other / "source.yml").write_text(SOURCE.replace("doors", "cars"), encoding="utf-8")
    (other / "splunk.yml").write_text(OWN, encoding="utf-8")
    rule = SigmaRule.from_yaml("{title: T, logsource: {product: cars}, detection: {s: {f: x}, condition: s}}")
    pipelines = load_pipelines(root)
    assert pipelines["splunk"].known_fields(rule) == {"who", "kind", "door"}
    assert pipelines["elastic"].known_fields(rule) == frozenset()
    assert pipelines["splunk"].shown(rule) == "pipelines/cars/splunk.yml"
    assert pipelines["elastic"].shown(rule) == "pipelines/*/elastic.yml"


def test_a_pipeline_that_stands_alone_has_no_short_forms(tmp_path: Path) -> None:
    path = tmp_path / "splunk.yml"
    path.write_text(OWN, encoding="utf-8")
    with pytest.raises(PackError, match=r'splunk\.yml:5: uses "same", which is not a plain parameter'):
        load_pipeline("splunk", path)


_names = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=12)


@given(
    st.dictionaries(
        st.integers(0, 9999), _names.filter(lambda n: not n.isdigit()), min_size=1, max_size=8
    ).filter(lambda values: len(set(values.values())) == len(values)),
    st.sampled_from(["number", "name", "both"]),
)
def test_every_name_and_number_is_written_out_as_pysigma_reads_it(values: dict[int, str], to: str) -> None:
    """Whatever a name is made of, the mapping has it as it stands, and the file says the same again."""
    pairs = ({"product": "p"},)
    source = LogSource(
        "s", Path("s"), "S", pairs, ("id",), RecordTime("at", "epoch_ms"), enumerations={"E": values}
    )
    text = (
        "transformations:\n- {id: x, type: map_string, field_name_conditions: "
        f"[{{type: include_fields, fields: [k]}}], mapping: {{enumeration: E, to: {to}}}}}\n"
    )
    [item] = source_file(source, Path("s", "p.yml"), text).items
    for number, name in values.items():
        expected = {"number": str(number), "name": name, "both": [name, str(number)]}[to]
        assert item["mapping"][str(number)] == expected == item["mapping"][name]
    assert len(item["mapping"]) == 2 * len(values)
    document = Document(Path("s"), {"transformations": [item]}, {})
    assert pipeline_document.faults(document) == []


def test_the_packs_own_files_are_merged_to_what_pysigma_reads_alone() -> None:
    import yaml

    from conftest import ROOT

    for name, pipeline in load_pipelines(ROOT).items():
        data = yaml.safe_load(pipeline.text())
        assert data == pipeline.document.data, name
        assert pipeline_document.faults(Document(Path(name), data, {})) == []
        ids = [item["id"] for item in data["transformations"]]
        assert len(set(ids)) == len(ids) and data["priority"] == 50
        assert ProcessingPipeline.from_yaml(pipeline.text()).priority == 50
        for source in load_log_sources(ROOT).values():
            assert (f"{source.name}_unknown_field" in ids) == (name not in source.absent)

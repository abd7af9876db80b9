"""The trap: a document that says something else than pySigma makes of a rule and its filters.

pySigma applies the filters and this pack writes the outcome down as one document. Both are converted by
pySigma's own test backend: the queries must be the same, whatever names and conditions look like.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sigma.backends.test.backend import TextQueryTestBackend
from sigma.collection import SigmaCollection

from detection_pack.model.documents import load_documents
from detection_pack.model.filters import Filter, NotApplied, filtered

SOURCE = {"product": "windows", "category": "process_creation"}
NAMES = ("s", "sel", "selection_1", "filter_x", "a-b", "notable", "x1", "of_")
VALUES = st.sampled_from([{"F": "a"}, {"F|contains": ["a", "b"]}, ["k", "l"], [{"F": "a"}, {"G": 5}]])
PATTERNS = ["1 of sel*", "all of them", "1 of them", "all of *s", "1 of _*", "NOT 1 of x*"]


@st.composite
def detections(draw: st.DrawFn, *hidden: str) -> dict[str, Any]:
    """A detection; only a rule's selections may have hidden names."""
    names = draw(st.lists(st.sampled_from([*NAMES, *hidden]), min_size=1, max_size=3, unique=True))
    terms = st.sampled_from([*names, *names, *PATTERNS])
    parts = draw(st.lists(terms, min_size=1, max_size=3))
    signs = draw(st.lists(st.sampled_from(["and", "or", "and not", "or not"]), min_size=3, max_size=3))
    condition = parts[0]
    for sign, part in zip(signs, parts[1:], strict=False):
        condition = f"({condition}) {sign} {part}" if draw(st.booleans()) else f"{condition} {sign} {part}"
    return {**{name: draw(VALUES) for name in names}, "condition": condition}


def converted(*documents: dict[str, Any]) -> list[str]:
    collection = SigmaCollection.from_dicts(copy.deepcopy(list(documents)))
    return list(TextQueryTestBackend().convert(collection))


@settings(max_examples=150, deadline=None)
@given(
    detection=detections("_s", "_filter_1"),
    stated=st.lists(detections(), min_size=1, max_size=3),
    listed=st.booleans(),
)
def test_the_document_says_what_pysigma_makes_of_it(
    detection: dict[str, Any], stated: list[dict[str, Any]], listed: bool
) -> None:
    if listed:
        detection = {**detection, "condition": [detection["condition"], next(iter(detection))]}
    rule = {"title": "T", "name": "base", "logsource": SOURCE, "detection": detection}
    documents = [
        rule,
        *({"title": "F", "logsource": SOURCE, "filter": {"rules": "any", **one}} for one in stated),
    ]
    text = "\n---\n".join(json.dumps(document, indent=1) for document in documents)
    read, *others = load_documents(Path("a.yml"), text)
    filters = [Filter(document, text) for document in others]
    assume(not any(one.faults for one in filters))
    try:
        expected = converted(*documents)
    except Exception:
        assume(False)
    try:
        made = filtered(read, filters)
    except NotApplied as error:
        assert "would take in" in str(error) and "_*" in str(detection["condition"])
        return
    assert converted(made.data) == expected
    assert made.as_written.data == read.data
    added = [keys for keys in made.origins if keys[0] == "detection"]
    assert len(added) == sum(len(one) - 1 for one in stated)
    for keys in added:
        name = str(keys[1])
        assert not any(str(own).startswith(name) or name == own for own in detection)
        assert made.line(*keys) > max(line for path, line in read.lines.items())


def test_each_part_keeps_its_file_and_line() -> None:
    rule = "title: T\nlogsource: {product: windows}\ndetection:\n  s: {F: a}\n  condition: s\n"
    text = (
        "title: F\nlogsource: {product: windows}\nfilter:\n  rules: any\n  x:\n    G: b\n  condition: not x\n"
    )
    [read], [other] = load_documents(Path("a.yml"), rule), load_documents(Path("f.yml"), text)
    made = filtered(read, [Filter(other, text)])
    assert made.data["detection"] == {
        "s": {"F": "a"},
        "condition": "(s) and (not _filter_1_x)",
        "_filter_1_x": {"G": "b"},
    }
    places = {(str(made.path_of(*keys)), made.line(*keys)) for keys in (made.keys_of("G"), made.keys_of("F"))}
    assert places == {("f.yml", 6), ("a.yml", 4)}
    assert str(made.path_of("detection", "condition")) == "a.yml"

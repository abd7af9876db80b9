"""The trap: a fault in a value of several lines that is reported at a line of another value.

A condition or a detail may fill several lines, and the word that is wrong stands in one of them; the same
word further down is none of its business. The search is compared with the slow one over random documents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from detection_pack.model.documents import load_documents
from detection_pack.model.reading import Reading

RULE = """title: One
detection:
  a: {x: y}
  condition: >-
    a and
    not beta
level: high
description: beta and zeta
"""
DATA = st.recursive(
    st.sampled_from(["a", "b c", "a\nb\nc"]),
    lambda child: st.one_of(
        st.lists(child, min_size=1, max_size=4),
        st.dictionaries(st.sampled_from("abcdef"), child, min_size=1, max_size=4),
    ),
    max_leaves=12,
)


def reading_of(text: str) -> tuple[Reading, Any]:
    [document] = load_documents(Path("a.yml"), text)
    return Reading(Path("a.yml"), text, None), document


def test_a_word_is_found_in_the_lines_of_its_value_alone() -> None:
    reading, document = reading_of(RULE)
    at = {said: reading.line_within(document, ("detection", "condition"), said) for said in ("beta", "zeta")}
    assert at == {"beta": 6, "zeta": 4}  # what it does not say: its own first line


@given(st.dictionaries(st.sampled_from("uvwxyz"), DATA, min_size=1, max_size=5))
def test_a_value_ends_where_the_next_that_is_not_inside_it_begins(data: dict[str, Any]) -> None:
    _, document = reading_of(yaml.safe_dump(data, sort_keys=False, width=20))
    for keys in document.lines:
        first = document.line(*keys)
        later = [n for path, n in document.lines.items() if n > first and path[: len(keys)] != keys]
        assert document.line_after(*keys) == min(later, default=None), keys

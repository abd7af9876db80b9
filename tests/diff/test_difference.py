"""The trap: a comparison that leaves out one of what differs, which no report then shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detection_pack.diff.difference import ValueChange, differing_keys, values

SIDE = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz"))


@given(SIDE, SIDE)
def test_every_key_that_differs_is_named_and_no_other(old: dict[str, str], new: dict[str, str]) -> None:
    found = differing_keys(old, new)
    assert found == sorted(found)
    assert {key: value for key, value in old.items() if key not in found} == {
        key: value for key, value in new.items() if key not in found
    }
    assert all(old.get(key) != new.get(key) for key in found)
    assert sorted(values(old, new), key=lambda one: one.of) == [
        ValueChange(key, old.get(key), new.get(key)) for key in found
    ]

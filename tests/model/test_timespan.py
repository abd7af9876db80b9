"""The trap: a minute that is a month, an amount that overflows, a text that says another length.

Units are case-sensitive (`M` is a month in Sigma and has no fixed length), and a span is written in the
largest unit that says it exactly.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection_pack.model.timespan import SECONDS, Timespan


@given(st.integers(1, 10**9), st.sampled_from("smhdw"))
def test_what_is_parsed_is_written_again(amount: int, unit: str) -> None:
    span = Timespan.parse(f"{amount}{unit}", "smhdw")
    assert span.seconds == amount * SECONDS[unit]
    written = span.text("smhdw")
    assert Timespan.parse(written, "smhdw") == span and SECONDS[written[-1]] >= SECONDS[unit]


@pytest.mark.parametrize(
    "text", ["", "h", "1", "0h", "1M", "1y", "1H", " 1h", "1h ", "-1h", "1.5h", "1hh", "\u0661h", "1w"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number and a unit"):
        Timespan.parse(text)


@pytest.mark.parametrize(
    ("seconds", "units", "text"),
    [
        (3600, "smhd", "1h"),
        (5400, "smhd", "90m"),
        (86400, "smhd", "1d"),
        (86400, "smh", "24h"),
        (61, "smhd", "61s"),
    ],
)
def test_the_largest_exact_unit(seconds: int, units: str, text: str) -> None:
    assert Timespan(seconds).text(units) == text

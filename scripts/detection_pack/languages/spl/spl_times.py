"""Spans and moments as SPL writes them."""

from __future__ import annotations

from detection_pack.languages.spl.spl_parser import UnsupportedSpl
from detection_pack.model.timespan import SECONDS, Timespan


def seconds(span: str) -> int:
    """A span such as ``24h`` in seconds; ``m`` is minutes."""
    try:
        return Timespan.parse(span).seconds
    except ValueError as error:
        raise UnsupportedSpl(f"the time span {span!r}") from error


def moment_before(text: str, now: float) -> float:
    """The time of a modifier such as ``-24h`` or ``-24h@h``, in seconds; ``@`` rounds down to the unit, here
    in UTC (Search Manual, "Specify time modifiers"). Raises `UnsupportedSpl`."""
    back, unit = steps_back(text)
    moment = now - back
    return moment - moment % unit if unit else moment


def steps_back(text: str) -> tuple[int, int]:
    """How many seconds a modifier goes back, and the seconds of the unit that it rounds down to, 0 for
    none."""
    span, at, unit = text.partition("@")
    if not span.startswith("-") or (at and unit not in tuple("smhd")):
        raise UnsupportedSpl(f"the time modifier {text!r}")
    return seconds(span[1:]), SECONDS[unit] if at else 0

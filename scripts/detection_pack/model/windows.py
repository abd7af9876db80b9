"""The windows of a correlation that overlap, so that a burst across the edge of one lies whole in another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from detection_pack.model.timespan import SECONDS

#: A correlation counts in windows of the clock, or in windows that overlap; in "every" window besides, where
#: somebody asks what stands in each and not what raises an alert.
CLOCK, OVERLAPPING, EVERY = "clock", "overlapping", "every"
_STEPS, _MOST_STEPS = 12, 60


@dataclass(frozen=True)
class Overlapping:
    """A window starts every ``step`` seconds, and is ``count`` steps long and one more.

    Whatever happens within ``count`` steps lies whole in one of them. A step divides the day, so that windows
    start at the same moments wherever a platform counts from.
    """

    step: int
    count: int

    @property
    def width(self) -> int:
        """The length of a window in seconds."""
        return (self.count + 1) * self.step

    @property
    def places(self) -> range:
        """How many steps before the one of an event the windows start in which it stands."""
        return range(self.count + 1)


def overlapping(window: int) -> Overlapping:
    """The windows for a length in seconds: a step is a twelfth of it, or as much less as makes it divide
    length and day. An odd number of seconds that no such step divides takes the next longer length."""
    step = next(_steps(gcd(window, SECONDS["d"]), window))
    if window > _MOST_STEPS * step:
        step = next(_steps(SECONDS["d"], window))
    return Overlapping(step, -(-window // step))


def _steps(of: int, window: int) -> Iterator[int]:
    """The divisors of a length that are a twelfth of the window or less, the longest first."""
    return (step for step in range(max(1, min(of, window // _STEPS)), 0, -1) if of % step == 0)

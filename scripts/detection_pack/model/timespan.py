"""Lengths of time as rules and products write them: a whole number and a unit."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Unit -> seconds. Months and years have no fixed length.
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WRITTEN = re.compile(r"([1-9][0-9]{0,9})([smhdw])")


@dataclass(frozen=True, order=True)
class Timespan:
    """A length of time in whole ``seconds``."""

    seconds: int

    @classmethod
    def parse(cls, text: str, units: str = "smhd") -> Timespan:
        """``24h``, in one of ``units``. Raises ValueError for anything else, with a message to show."""
        found = _WRITTEN.fullmatch(text)
        if found is None or found[2] not in units:
            listed = f"{', '.join(units[:-1])} or {units[-1]}"
            raise ValueError(f'"{text}" is not a whole number and a unit ({listed})')
        return cls(int(found[1]) * SECONDS[found[2]])

    def text(self, units: str = "smhd") -> str:
        """The span in the largest of ``units`` that says it exactly: ``3600`` as ``1h``."""
        amount, unit = self.counted(units)
        return f"{amount}{unit}"

    def counted(self, units: str = "smhd") -> tuple[int, str]:
        """``(amount, unit)`` in the largest of ``units`` that says it exactly."""
        unit = max((u for u in units if self.seconds % SECONDS[u] == 0), key=SECONDS.__getitem__)
        return self.seconds // SECONDS[unit], unit

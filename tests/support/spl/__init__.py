"""A second reading of SPL: searches interpreted over events as dictionaries, by Splunk's documentation alone.

It stands beside the product's model, which translates SPL to SQL, and shares no code with it, so that a fault
in how one of them reads the documentation shows as a disagreement. What it does not know, and what the
documentation leaves open, it refuses with its position (`UnsupportedSearch`).
"""

from __future__ import annotations

from support.spl.commands import Table
from support.spl.conf import stanzas
from support.spl.errors import UnsupportedSearch
from support.spl.pattern import BYTES, MODES, UTF, Mode
from support.spl.pipeline import Index, run
from support.spl.rows import Row
from support.spl.search import moment_of

__all__ = [
    "BYTES",
    "MODES",
    "UTF",
    "Index",
    "Mode",
    "Row",
    "Table",
    "UnsupportedSearch",
    "moment_of",
    "run",
    "stanzas",
]

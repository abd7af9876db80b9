"""What a rule says that its author may not mean: nothing here keeps a rule from being built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from detection_pack.build.known_values import unlisted_values
from detection_pack.build.noise import noise
from detection_pack.model.findings import Finding
from detection_pack.model.literal_wildcards import literal_wildcards
from detection_pack.model.log_source import LogSource
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule


def meaning(reading: Reading, rest: Rule, sources: Mapping[str, LogSource]) -> Iterator[Finding]:
    """Wildcards and expressions that find nearly everything or nothing, and values that no record holds:
    errors in the pack, warnings elsewhere. ``rest`` is the reading's rule with its misspelt names put right.
    """
    found = (*literal_wildcards(reading), *noise(reading), *unlisted_values(reading, rest, sources))
    yield from (one if reading.in_pack else replace(one, severity="warning") for one in found)

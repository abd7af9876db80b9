"""Exports for tests: written, and read back as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from detection_pack.model.event import Event
from detection_pack.model.log_source import LogSource
from detection_pack.replay.reading import read
from support.sources import SOURCES


def read_events(
    paths: Sequence[Path], sources: Mapping[str, LogSource] = SOURCES, *, strict: bool = False
) -> list[Event]:
    """Every record of the files, whole."""
    with read(paths, sources, strict=strict) as reading:
        return reading.events()

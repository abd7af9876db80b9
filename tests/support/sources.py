"""The log sources of the pack, for tests that make events of theirs."""

from __future__ import annotations

from conftest import ROOT
from detection_pack.model.log_source import tables_of
from detection_pack.model.log_source_reader import load_log_sources

SOURCES = load_log_sources(ROOT)
M365, PROCESS = SOURCES["m365"], SOURCES["process_creation"]
#: By the short names that tables of cases use.
BY_KIND = {"m365": M365, "process": PROCESS}
#: Tables with the types of their columns.
SENTINEL_TABLES = tables_of(SOURCES.values(), "sentinel")
DEFENDER_TABLES = tables_of(SOURCES.values(), "defender")

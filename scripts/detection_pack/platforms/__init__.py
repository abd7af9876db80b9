"""The three platforms, one folder each and all of the same shape.

``backend.py`` turns a rule into queries, ``ingest.sql`` says what the platform's connector makes of a raw
record, ``engine.py`` executes what stands in dist/, ``artefacts.py`` writes it there. A platform never
imports another; what they share is here: `conversion` (a rule through a pipeline), `terms` (whole-term
matching) and `rows` (raw records into DuckDB).
"""

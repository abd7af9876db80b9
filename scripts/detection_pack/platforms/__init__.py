"""The platforms, one folder each and all of the same shape. Whatever folder holds a ``platform.py`` is one.

``platform.py`` is what the rest of the product asks, ``backend.py`` turns a rule into queries, ``imports.py``
writes what a team imports and reads it back, ``run.py`` executes what stands in dist/. A platform never
imports another; what they share is here: `platform` (what each must say), `conversion` (a rule through a
pipeline), `terms` (whole-term matching), `rows` (raw records into DuckDB), and `kusto`, which Microsoft's two
share.
"""

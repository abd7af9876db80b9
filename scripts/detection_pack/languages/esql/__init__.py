"""ES|QL: a model that executes what the pack writes on DuckDB."""

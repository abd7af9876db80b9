"""SPL: literals, and a model that executes what the pack writes on DuckDB."""

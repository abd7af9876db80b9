"""What Microsoft's two platforms share: Sigma to KQL, and KQL on DuckDB. It is no platform of its own."""

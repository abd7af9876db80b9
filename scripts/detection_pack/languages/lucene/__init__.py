"""Lucene query strings: read, executed on DuckDB with Elasticsearch's documented meaning, and their regular
expressions as trees and text, measured before Elasticsearch measures them."""

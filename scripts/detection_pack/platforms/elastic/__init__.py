"""Elastic: Lucene query strings, Kibana threshold rules and ES|QL."""

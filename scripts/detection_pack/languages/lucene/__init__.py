"""Lucene: regular expressions as trees and text, measured before Elasticsearch measures them."""

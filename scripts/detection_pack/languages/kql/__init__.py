"""Kusto Query Language: text of a rule that no value can break out of."""

"""Regular expressions: their trees, what the dialects read alike, and which of them take long."""

"""``detection-pack replay``: dist/ against events, out of the pack's own cases or of a person's export."""

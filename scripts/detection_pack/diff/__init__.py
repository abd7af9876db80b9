"""``detection-pack diff``: what changes for those who import the pack."""

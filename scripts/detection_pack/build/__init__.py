"""``detection-pack build``: rules into dist/, written whole, and releases."""

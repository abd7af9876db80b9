"""``detection-pack new``: a rule, its events and its page, valid but for the placeholders of its author."""

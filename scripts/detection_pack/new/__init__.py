"""``detection-pack new``: a rule, its events and its page, valid but for the blanks of its author."""

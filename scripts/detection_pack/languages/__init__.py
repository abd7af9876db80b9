"""Query languages as such, each in its own room; no rule and no log source is known here."""

"""From hits that are false to the smallest exclusion that leaves every true hit."""

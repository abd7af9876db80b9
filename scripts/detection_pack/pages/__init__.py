"""docs/rules/: a page for each rule."""

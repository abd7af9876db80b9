"""What `detection-pack validate` checks, one module a subject; `catalogue.yml` names every check."""

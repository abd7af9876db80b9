"""``detection-pack simulate``: records of the atomic tests for today, to send through a pipeline."""

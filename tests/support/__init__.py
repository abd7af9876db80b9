"""What tests use and the product does not."""

"""The pack into a product: what is there, what would change, and putting it there."""

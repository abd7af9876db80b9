"""What tests share: generated events, independent evaluators, what a checkout holds."""

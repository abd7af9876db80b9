"""What a pack is: findings, documents with lines, rules, pipelines, log sources, events, cases."""

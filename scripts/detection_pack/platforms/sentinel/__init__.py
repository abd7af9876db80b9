"""Microsoft Sentinel: KQL, scheduled analytics rules, ARM templates."""

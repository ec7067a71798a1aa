"""Words of a text: one rule for stored texts, queries, filters and highlighting."""

"""How good a collection is: its search by judged queries, its documents by near-duplicates."""

"""What of a collection is in memory: the rows of a state, their vectors or where these lie, and their int8 codes."""

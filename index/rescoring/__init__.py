"""Rescoring: the best of a search are ranked again, by the vectors of their tokens."""

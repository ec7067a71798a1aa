"""Training data: examples of pairs, near-duplicates, hard negatives, and which of them make which batch."""

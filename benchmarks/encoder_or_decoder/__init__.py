"""What a bidirectional encoder gives that a causal body of the same size does not, trained and measured alike."""

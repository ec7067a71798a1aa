"""How good a model's vectors are, in the protocols the field publishes figures in."""

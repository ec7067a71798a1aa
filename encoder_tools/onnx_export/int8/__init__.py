"""The variant in int8: activations smoothed exactly, weights per channel, sensitive layers left in float32."""

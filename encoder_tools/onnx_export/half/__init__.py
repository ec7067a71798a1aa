"""Half precision that cannot overflow: measured ranges, exact scaling by powers of two, islands of float32."""

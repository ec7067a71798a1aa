"""A small encoder distilled from a larger one's vectors; needs the extra ``train``."""

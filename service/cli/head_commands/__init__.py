"""The commands of ``encoder-tools head``."""

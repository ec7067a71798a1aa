"""The commands of ``encoder-tools index``."""

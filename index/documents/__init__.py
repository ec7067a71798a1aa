"""Texts as they are stored: chunks, Markdown and HTML, and where each character stood in the source."""

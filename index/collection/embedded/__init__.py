"""The embedded engine: a folder with a SQLite database, and its vectors in memory or mapped."""

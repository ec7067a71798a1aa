"""SQLite: the database of a collection, its tables, full-text search, vectors in blocks, and their integrity."""

"""PostgreSQL with pgvector: documents, vectors and postings of words in tables of one schema for each collection."""

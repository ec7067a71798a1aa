"""Search by words of large collections: postings beside the database, ranked exactly by BM25."""

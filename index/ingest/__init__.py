"""Files into a collection: rows of tables, and text files of folders."""

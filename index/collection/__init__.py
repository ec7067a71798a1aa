"""The class Collection: its verbs, and what they stand on."""

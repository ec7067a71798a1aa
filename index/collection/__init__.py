"""The class Collection, and what it is composed of: reads, searches and writes of one open state."""

from index.collection.collection import Collection

__all__ = ["Collection"]

"""What is served: models, heads and collections, loaded, hot-reloaded, and run off the event loop."""

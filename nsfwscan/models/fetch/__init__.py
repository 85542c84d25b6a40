"""Getting models: from a hub, and from a package index."""

"""How the systems people use today decide, each re-implemented from its public sources."""

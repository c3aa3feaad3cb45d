"""The endpoint replays itself: every setting of the family over its own recorded past, and the choice among them."""

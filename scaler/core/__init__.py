"""Pure: one snapshot in, one explained decision out. The same arithmetic runs compiled in the fast replay."""

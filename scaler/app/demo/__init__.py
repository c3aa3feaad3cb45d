"""The demonstration: generated traffic, a simulated cluster, the real cycle."""

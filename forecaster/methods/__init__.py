"""Forecast methods; the registry is `registry.METHODS`."""

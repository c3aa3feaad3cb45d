"""Demand history and live signals from Prometheus and what speaks its query language."""

"""Frozen values that the whole product speaks in. No I/O, no pandas, no clock."""

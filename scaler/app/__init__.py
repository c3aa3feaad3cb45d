"""Wiring: settings, bootstrap, scheduler, HTTP, command line."""

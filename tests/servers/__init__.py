"""Real servers for the tests: found, or built once with Go, and started on loopback in temporary folders."""

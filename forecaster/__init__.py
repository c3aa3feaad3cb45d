"""Demand history in, demand quantiles out. Knows nothing of Kubernetes, policies or replicas."""

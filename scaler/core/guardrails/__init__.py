"""What may change a planned order, in order. Each writes a verdict; the registry is `registry.GUARDRAILS`."""

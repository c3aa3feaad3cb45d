"""The same cycle in a world that moves only when told: demand, replicas, a queue, baselines and the clairvoyant."""

"""From a forecast to an order for replicas."""

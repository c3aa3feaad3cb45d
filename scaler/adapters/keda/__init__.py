"""KEDA asks, Headstart answers: the external scaler interface over the orders of the turns."""

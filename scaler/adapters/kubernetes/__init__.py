"""The cluster's side of the loop: the only folder that knows Kubernetes."""

"""The state of network namespaces as values: what should be, what is, and the difference."""

"""docker_gwbridge: desired state and plan."""

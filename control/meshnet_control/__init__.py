"""meshnet's control plane, agent and front doors."""

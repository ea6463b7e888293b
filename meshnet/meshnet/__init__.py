"""meshnet: the model, the data plane and gossip."""

"""Values shared by every part: ids, nodes, networks, services, endpoints, the Snapshot."""

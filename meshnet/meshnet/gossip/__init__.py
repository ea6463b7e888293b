"""SWIM membership and per-owner records on port 7946."""

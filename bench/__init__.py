"""Measurements of meshnet against a peer, both interleaved in one run; ``python -m bench``."""

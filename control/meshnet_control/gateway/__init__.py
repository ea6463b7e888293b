"""The Docker Engine API on a unix socket: what is the cluster's is answered, the rest passed on.

Imported by the daemon only; imports manager, controlapi, engine and below, never node.
"""

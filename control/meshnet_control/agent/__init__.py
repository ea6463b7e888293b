"""Runs this node's tasks as containers of the local engine.

And attaches containers of ``docker run`` to networks of the cluster (``attachments``).

Imported by node, and by the gateway for what its users ask of their containers; imports engine,
cluster and api.
"""

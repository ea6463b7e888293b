"""Assignments, gossip and sandboxes become Snapshots, and Snapshots feed the reconcilers.

Imported by node only; imports cluster and api.
"""

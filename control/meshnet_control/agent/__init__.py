"""Runs this node's tasks as containers of the local engine.

Imported by node only; imports engine, cluster and api.
"""

"""Requests on the cluster's objects: checked, completed and written to the store.

Imported by gateway only; imports store, cluster, convert and api.
"""

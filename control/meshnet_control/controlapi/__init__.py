"""Requests on the cluster's objects: checked, completed and written to the store."""

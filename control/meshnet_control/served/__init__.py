"""HTTP that a host serves only where it was asked to: the address kept, the listener, its bounds.

Imported by metrics, dashboard and cli; imports nothing of the control plane.
"""

"""VXLAN overlays: desired state and plan."""

"""Specifications of objects: completed, checked, named.

Imported by the control API; imports its refusals.
"""

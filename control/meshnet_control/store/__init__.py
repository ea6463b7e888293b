"""The cluster's objects: one interface (get, list, commit with compare, watch), its backends.

Imported by manager, controlapi, orchestrate, gateway and node; imports api only.
"""

"""The dashboard: a page of nodes, tasks and services that changes while it is looked at.

Imported by the daemon and the command; imports node and what it tells of.
"""

"""The meshnet command.

Imported by nobody; imports host, lab, identity and api.
"""

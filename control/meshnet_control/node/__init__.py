"""This host's part in a cluster: init, join, leave, and all that runs while it is a member.

Imported by the daemon and admin; imports link, agent, dataplane and what they stand on.
"""

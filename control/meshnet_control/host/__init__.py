"""The processes of this host: start, stop, supervise, look.

Imported by cli and the daemon; imports no other room.
"""

"""A cluster of hosts on one machine, and the images and scenario it plays.

Imported by cli only; imports no other room.
"""

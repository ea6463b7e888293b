"""What managers and nodes tell each other, as values: assignments, gossip records, log lines. Pure.

Imported by every room above that talks to the other side; imports api only.
"""

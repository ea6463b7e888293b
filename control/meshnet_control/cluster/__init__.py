"""What managers and nodes tell each other, as values: assignments, gossip records, log lines. Pure.

Imported by agent, dataplane, orchestrate, controlapi, manager, node and gateway; imports api only.
"""

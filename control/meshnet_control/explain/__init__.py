"""What the network does and why, in values: pure.

Imported by node (which reads what is here decided from) and cli (which shows it); imports api.
"""

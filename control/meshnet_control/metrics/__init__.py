"""``/metrics`` for Prometheus: what is read when it is scraped (facts), in its words (families).

Imported by the daemon; imports node and what it tells of.
"""

"""meshnetd's end of the socket to meshnet-manager: the store, logs, and what each tells the other.

Imported by node, gateway and, for messages, manager; imports identity, store, host, cluster, api.
"""

"""Who a node is: cluster CA, join tokens, certificates, authenticated channels, the handshake.

Imported by manager, node, gateway and cli; imports api only.
"""

"""The local Docker Engine: its client, and the keeper of its network docker_gwbridge.

Imported by agent, node, gateway and the daemon; imports api only.
"""

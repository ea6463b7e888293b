"""The local Docker Engine: the one client of its socket, and the keeper of docker_gwbridge.

Imported by agent, node, gateway and the daemon; imports api only.
"""

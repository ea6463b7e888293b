"""One module for each group of Engine API routes.

Imported by ``gateway.app``; imports the handler context (``gateway.request``) and responses.
"""

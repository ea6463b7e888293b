"""etcd, the replicated log under several managers: its process, and a thin client of its API.

Imported by store and manager; imports api only. Nothing here knows what is stored.
"""

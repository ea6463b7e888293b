"""Steps from services to assigned tasks: allocate, replicate, schedule, restart, update. Pure.

Imported by manager only; imports cluster, store and api.
"""

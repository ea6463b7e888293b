"""Hosts of a lab as virtual machines: real boots, systemd, network cards of their own.

Imported by the lab alone. ``recipe``, ``machine`` and ``seed`` are pure; ``image`` makes disks,
``hosts`` runs machines, ``monitor`` stops and continues them.
"""

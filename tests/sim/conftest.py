"""Fixtures of the sim tier."""

from __future__ import annotations

import pytest
from simulated_gossip import Cluster


@pytest.fixture
def cluster() -> type[Cluster]:
    """Name: cluster. Scope: function. Depends: nothing.

    The class of a population: ``cluster(5, loss=0.1)``.
    """
    return Cluster

"""What a service's network means when it is none of the cluster's: one of the local engine's.

The CLI asks for the network it was given (``GET /networks/{id}?scope=swarm``) and sends the id of
the answer; other clients send names or the engine's ids as they are.

Source: moby daemon/cluster/services.go populateNetworkID.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Network, ServiceSpec
from meshnet_control.cluster import engine_networks
from meshnet_control.gateway.request import HandlerContext


async def engine_network(context: HandlerContext, reference: str) -> Network | None:
    """The predefined network that a reference means to the local engine; None: it knows none.

    Raises:
        ControlError: it means another network of the engine, which services cannot use (403).
    """
    found = engine_networks.network(reference)
    if found is not None or reference in {"", ".", ".."}:  # those name no object in a path
        return found
    try:
        local = await context.engine.json(f"/networks/{quote(reference, safe='')}")
    except ControlError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    name = str(local["Name"])
    found = engine_networks.network(name)
    if found is None:
        raise ControlError(
            f"The network {name} cannot be used with services. Only networks scoped to the swarm "
            "can be used, such as those created with the overlay driver.",
            HTTPStatus.FORBIDDEN,
        )
    return found


async def name_engine_networks(context: HandlerContext, spec: ServiceSpec) -> None:
    """Turn the engine's ids of predefined networks into their names, in place.

    Raises:
        ControlError: a network of the engine that services cannot use (403).
    """
    networks = context.api().networks
    for attachment in (*spec.task_template.networks, *spec.networks):
        if await networks.search(attachment.target, exact=False):
            continue
        found = await engine_network(context, attachment.target)
        if found is not None:
            attachment.target = found.id

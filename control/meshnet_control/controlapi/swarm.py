"""The cluster object: inspect it, change its settings, rotate its join tokens and its root.

Source: moby daemon/cluster/swarm.go and convert/swarm.go; swarmkit manager/controlapi/cluster.go,
ca/config.go (GenerateJoinToken).
"""

from __future__ import annotations

from meshnet.model.ids import Rng, base36
from meshnet_control.api.control_pb2 import CAConfig, Cluster, ClusterSpec
from meshnet_control.cluster import gossip_ring
from meshnet_control.controlapi.access import Access, check_version, written
from meshnet_control.controlapi.refusals import invalid, not_found
from meshnet_control.controlapi.specs import cluster_checks
from meshnet_control.identity import ca, rotation
from meshnet_control.store.store import Key, Put
from meshnet_control.store.unlock_key import new_unlock_key, unlock_key_text

_SECRET_BITS, _SECRET_DIGITS = 128, 25


class Swarm:
    """The cluster itself."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def inspect(self) -> Cluster:
        """The cluster, join tokens included.

        Raises:
            ControlError: the store has none (404).
        """
        clusters = await self._access.all(Cluster)
        if not clusters:
            raise not_found("swarm", "default")
        return clusters[0]

    async def unlock_key(self) -> str:
        """What ``docker swarm unlock`` takes after a restart; empty: managers do not lock."""
        key = (await self.inspect()).unlock_key
        return unlock_key_text(key) if key else ""

    @written
    async def update(
        self,
        version: int,
        spec: ClusterSpec,
        *,
        rotate_worker: bool = False,
        rotate_manager: bool = False,
        rotate_unlock_key: bool = False,
    ) -> None:
        """Replace the cluster's settings; what is left out keeps its value.

        Raises:
            ControlError: a setting is refused, or the cluster changed since it was read.
        """
        cluster = await self.inspect()
        check_version(cluster, version)
        cluster_checks.check(spec)
        new = Cluster()
        new.CopyFrom(cluster)
        new.spec.labels.clear()
        new.spec.MergeFrom(spec)
        new.spec.name = cluster.spec.name
        if spec.HasField("encryption_config"):
            new.spec.encryption_config.CopyFrom(spec.encryption_config)
        if not new.spec.encryption_config.auto_lock_managers:
            new.unlock_key = b""
        elif rotate_unlock_key or not new.unlock_key:
            new.unlock_key = new_unlock_key(self._access.rng)
        self._rotate_root(new, cluster.spec.ca_config, spec.ca_config)
        tokens = new.join_tokens
        if rotate_worker:
            tokens.worker = rotated(tokens.worker, self._access.rng)
        if rotate_manager:
            tokens.manager = rotated(tokens.manager, self._access.rng)
        await self._access.put(new)

    @written
    async def rotate_gossip_key(self) -> None:
        """Ask for a new key of gossip; the version that users see stays."""
        cluster = await self.inspect()
        new = Cluster()
        new.CopyFrom(cluster)
        gossip_ring.want(new)
        expect: dict[Key, int] = {(Cluster, cluster.id): cluster.version.index}
        await self._access.store.commit([Put(new)], expect=expect)

    def _rotate_root(self, cluster: Cluster, has: CAConfig, asked: CAConfig) -> None:
        """Begin with another root when the settings ask for one; in place.

        Raises:
            ControlError: it cannot be the cluster's root.
        """
        kept = cluster.spec.ca_config
        kept.signing_ca_key = ""  # with the certificate in the cluster, and never shown
        now = self._access.wall()
        try:
            if asked.signing_ca_key or (
                asked.signing_ca_cert and not _signs(cluster, asked.signing_ca_cert)
            ):
                if not asked.signing_ca_key:
                    raise invalid(
                        "the desired CA certificate needs its key, for the manager signs the "
                        "nodes' certificates itself"
                    )
                given = rotation.brought(asked.signing_ca_cert, asked.signing_ca_key, now)
                rotation.begin(cluster, *given)
            elif not asked.signing_ca_cert and asked.force_rotate not in {0, has.force_rotate}:
                kept.signing_ca_cert = ""
                rotation.begin(cluster, *ca.new_root(cluster.id, now))
        except rotation.RootError as error:
            raise invalid(str(error)) from None


def _signs(cluster: Cluster, certificate: str) -> bool:
    return rotation.same(rotation.signer(cluster)[0], certificate)


def rotated(token: str, rng: Rng) -> str:
    """A join token with a new secret for the same cluster; PURE.

    Args:
        token: ``SWMTKN-1-<digest of the root certificate>-<secret>``.
        rng: source of the secret; must be a cryptographic one.
    """
    head, _, _ = token.rpartition("-")
    return f"{head}-{base36(rng.getrandbits(_SECRET_BITS), _SECRET_DIGITS)}"

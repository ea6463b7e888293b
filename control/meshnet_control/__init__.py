"""Control plane, agent, gateway and the meshnet command.

Be aware: gRPC's C core prints every failed handshake on standard error (a stale token, a peer that
is going away): what it means is in our own errors. ``GRPC_VERBOSITY`` set by the user stays; it is
read when grpc is first imported, so it is set here, before any module of ours does.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

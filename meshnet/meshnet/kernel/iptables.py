"""Rules in the engine's firewall chain for others, DOCKER-USER (iptables(8)).

dockerd sets the policy of FORWARD to DROP and jumps to DOCKER-USER first: "rules that should load
before Docker's" belong there. Ours carry the comment ``meshnet`` and stand at its head. An engine
may leave IPv6 alone, so of it ours stand at the head of FORWARD itself.

Be aware: the command is run only when the ruleset's generation says that something changed
(nfnetlink's GETGEN), or when iptables is the legacy one that has no generation.
"""

from __future__ import annotations

import subprocess
from typing import Final, Literal

from meshnet.errors import MeshnetError
from meshnet.kernel import netns
from meshnet.kernel.nfnetlink import NfnetlinkSocket

CHAIN: Final = "DOCKER-USER"
FORWARD: Final = "FORWARD"
COMMENT: Final = "--comment meshnet"
_JUMP: Final = f"-A {FORWARD} -j {CHAIN}"
_TIMEOUT_S: Final = 20


class FirewallError(MeshnetError):
    """iptables refused; the text is its own."""


class Firewall:
    """The chain with our rules in one namespace, of one family.

    Args:
        host_netns: path of the namespace; None: the thread's own.
        command: of IPv4, or of IPv6.
    """

    def __init__(
        self,
        host_netns: str | None = None,
        command: Literal["iptables", "ip6tables"] = "iptables",
    ) -> None:
        self._netns = host_netns
        self._command = command
        self._chain = CHAIN if command == "iptables" else FORWARD
        self._socket: NfnetlinkSocket | None = None
        self._seen: tuple[int, tuple[str, ...]] | None = None
        self._legacy: bool | None = None

    def rules(self) -> tuple[str, ...]:
        """Our rules in their order; empty too when the chain or the jump to it is missing.

        A rule of ours that does not stand at the head is not counted.

        Raises:
            FirewallError: iptables cannot be run.
            KernelError: the namespace cannot be asked.
        """
        generation = self._generation()
        if self._seen is not None and self._seen[0] == generation and not self._is_legacy():
            return self._seen[1]
        found = self._read()
        self._seen = (generation, found)
        return found

    def set_rules(self, rules: tuple[str, ...]) -> None:
        """Make ``rules`` the head of the chain, and remove every other rule of ours. Idempotent.

        Raises:
            FirewallError: iptables refused.
        """
        self._seen = None
        chain = self._chain
        if self._run("-S", chain) is None:
            if not rules:
                return
            self._must("-N", chain)
            self._must("-A", chain, "-j", "RETURN")
        if chain != FORWARD and rules:
            self._jump()
        old = (self._run("-S", chain) or "").splitlines()
        ours = [n for n, line in enumerate(old[1:], start=1) if COMMENT in line]
        for number, rule in enumerate(rules, start=1):
            self._must("-I", chain, str(number), *rule.split())
        for number in reversed(ours):
            self._must("-D", chain, str(number + len(rules)))

    def _jump(self) -> None:
        """Have FORWARD ask our chain first."""
        if _JUMP not in (self._run("-S", FORWARD) or "").splitlines()[1:2]:
            self._run("-D", FORWARD, "-j", CHAIN)
            self._must("-I", FORWARD, "-j", CHAIN)

    def close(self) -> None:
        """Close the socket; the rules stay."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self) -> tuple[str, ...]:
        forward = (self._run("-S", FORWARD) or "").splitlines()
        if self._chain != FORWARD and _JUMP not in forward:
            return ()
        lines = (self._run("-S", self._chain) or "").splitlines()[1:]
        found: list[str] = []
        for line in lines:
            if COMMENT not in line:
                break
            found.append(line.removeprefix(f"-A {self._chain} "))
        stray = [line for line in lines[len(found) :] if COMMENT in line]
        return tuple(found + stray)

    def _generation(self) -> int:
        if self._socket is None:
            with netns.inside(self._netns):
                self._socket = NfnetlinkSocket()
        return self._socket.generation()

    def _is_legacy(self) -> bool:
        if self._legacy is None:
            self._legacy = "nf_tables" not in (self._run("--version") or "")
        return self._legacy

    def _must(self, *arguments: str) -> None:
        if self._run(*arguments, must=True) is None:
            raise FirewallError(f"{self._command} {' '.join(arguments)} failed")

    def _run(self, *arguments: str, must: bool = False) -> str | None:
        """What the command printed; None when it said no."""
        wait = () if arguments[0] == "--version" else ("-w", "10")
        try:
            # The child is made by this thread and so starts in the namespace it is in.
            with netns.inside(self._netns):
                done = subprocess.run(
                    [self._command, *wait, *arguments],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=_TIMEOUT_S,
                )
        except OSError as error:
            raise FirewallError(f"{self._command} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise FirewallError(f"{self._command} {' '.join(arguments)} does not end") from error
        if done.returncode == 0:
            return done.stdout
        if must:
            raise FirewallError(f"{self._command} {' '.join(arguments)}: {done.stderr.strip()}")
        return None

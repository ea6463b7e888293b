"""What is on the disk of a virtual machine, as Debian packages and a script. Pure.

The machine is what a Vagrant box of Debian 12 is after its first boot: systemd, ifupdown, the first
card by DHCP, sshd. The image is made anew when its recipe changes, and kept otherwise; what changes
often (the project itself, who a machine is) comes with the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

SUITE: Final = "bookworm"
PREFIX: Final = "/opt/meshnet"
"""The virtual environment on the machine; here are the dependencies, the seed brings meshnet."""
SEEDED: Final = "/var/lib/meshnet-lab-seeded"
PACKAGES: Final = (
    # a machine
    "linux-image-amd64", "systemd-sysv", "dbus", "openssh-server", "ifupdown", "isc-dhcp-client",
    "systemd-timesyncd", "sudo", "rsync", "ca-certificates", "procps", "kmod", "apparmor",
    # what meshnet stands on
    "docker.io", "nftables", "libnftables1", "iproute2", "iptables", "conntrack", "python3-venv",
    "busybox-static", "tini",
    "etcd-server",  # of several managers; Debian's own service is masked
    # others' firewalls, networks and resolvers, switched off
    "ufw", "firewalld", "network-manager", "systemd-resolved", "wireguard-tools",
    # what a person looks with, and what measures
    "curl", "bind9-dnsutils", "tcpdump", "ethtool", "jq", "ipvsadm", "wrk", "iperf3",
)  # fmt: skip
_SEED_UNIT: Final = f"""[Unit]
Description=Who this machine is, from its second disk, at the first boot
DefaultDependencies=no
Requires=local-fs.target
After=local-fs.target
Before=sysinit.target network-pre.target
ConditionPathExists=!{SEEDED}

[Service]
Type=oneshot
ExecStart=tar -C / --no-same-owner --no-overwrite-dir -xf /dev/vdb
ExecStart=hostname -F /etc/hostname
ExecStart=touch {SEEDED}
ExecStart=sync

[Install]
WantedBy=sysinit.target
"""
_INTERFACES: Final = """auto lo
iface lo inet loopback
allow-hotplug eth0
iface eth0 inet dhcp
source-directory /etc/network/interfaces.d
"""
SETUP: Final = """set -eu
root=$1
mkdir -p "$root/etc/initramfs-tools/conf.d"
echo MODULES=list > "$root/etc/initramfs-tools/conf.d/lab"
printf 'virtio_pci\\nvirtio_blk\\next4\\n' > "$root/etc/initramfs-tools/modules"
"""
"""Before packages are unpacked: an initial RAM disk of few modules, which boots sooner."""


def customize(wheels: str) -> str:
    """The script that runs when all packages are installed; its argument is the root directory.

    Args:
        wheels: directory with the wheels of meshnet's dependencies.
    """
    return f"""set -eu
root=$1
install -d "$root/etc/systemd/system" "$root/var/log/journal" "$root/etc/network/interfaces.d"
cat > "$root/etc/systemd/system/meshnet-lab-seed.service" <<'TEXT'
{_SEED_UNIT}TEXT
chroot "$root" systemctl enable meshnet-lab-seed.service
chroot "$root" systemctl disable firewalld.service systemd-timesyncd.service ipvsadm.service \\
  NetworkManager.service NetworkManager-wait-online.service systemd-resolved.service
chroot "$root" systemctl mask etcd.service
rm -f "$root/etc/resolv.conf"  # a link to the stub of the resolver that is switched off
: > "$root/etc/resolv.conf"
# What a machine does by itself in its first hour would be measured with us.
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer man-db.timer \\
  e2scrub_all.timer fstrim.timer dpkg-db-backup.timer logrotate.timer e2scrub_reap.service
cat > "$root/etc/network/interfaces" <<'TEXT'
{_INTERFACES}TEXT
# Nobody answers there, and the kernel says so at once: there is no name server to wait for.
echo 'supersede domain-name-servers 127.0.0.1;' >> "$root/etc/dhcp/dhclient.conf"
printf 'UseDNS no\\n' >> "$root/etc/ssh/sshd_config"
echo '/dev/vda / ext4 defaults,errors=remount-ro 0 1' > "$root/etc/fstab"
chroot "$root" useradd --create-home --shell /bin/bash vagrant
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/vagrant"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
: > "$root/etc/machine-id"
cp -r '{wheels}' "$root/tmp/wheels"
chroot "$root" python3 -m venv {PREFIX}
chroot "$root" {PREFIX}/bin/pip install --quiet --no-index --find-links /tmp/wheels \\
  --requirement /tmp/wheels/requirements.txt
rm -rf "$root/tmp/wheels"
"""


def digest(requirements: Sequence[str]) -> str:
    """Name of the image that this recipe makes, with these requirements of Python."""
    text = "\n".join([SUITE, *PACKAGES, SETUP, customize("wheels"), *requirements])
    return hashlib.sha256(text.encode()).hexdigest()[:16]

#!/usr/bin/env bash
# What makes a host of a Debian 12 machine: packages, meshnet in /opt/meshnet, systemd units, test images.
# Run as root in a machine that has the project in /vagrant: provision.sh NAME=ADDRESS …  (all hosts)
#
# Nothing that runs as root stays in the synced folder: whoever may write there is not root.
set -euo pipefail
project=${PROJECT:-/vagrant}
prefix=/opt/meshnet

# Vagrant gives a machine's own name the address 127.0.2.1; the others' names are unknown to it.
for host in "$@"; do
  name=${host%%=*} address=${host#*=}
  [ "$name" = "$(hostname)" ] || grep -q "[[:space:]]$name\$" /etc/hosts || echo "$address $name" >> /etc/hosts
done

packages=(docker.io nftables libnftables1 iproute2 iptables conntrack kmod procps python3-venv
          busybox-static tini curl bind9-dnsutils apparmor)
mapfile -t missing < <(for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
done)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# A wheel that another host has built is taken as it is.
[ -x $prefix/bin/python ] || python3 -m venv $prefix
wheel=$(find "$project/vagrant/wheels" -name 'meshnet-*.whl' 2>/dev/null | head -n 1)
echo "installing meshnet into $prefix"
$prefix/bin/pip install --quiet --disable-pip-version-check --upgrade "${wheel:-$project}"
ln -sf $prefix/bin/meshnet /usr/local/bin/meshnet

$prefix/bin/python -m meshnet_control.lab.images
meshnet up --install

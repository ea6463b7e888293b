#!/usr/bin/env bash
# What makes a host of a Debian 12 machine: packages, meshnet in /opt/meshnet, systemd units, test images.
# Run as root in a machine that has the project in /vagrant: provision.sh [--manager] NAME=ADDRESS …  (all hosts)
#
# --manager: what one of several managers needs, too.
#
# Nothing that runs as root stays in the synced folder: whoever may write there is not root.
set -euo pipefail
unset DOCKER_HOST DOCKER_CONTEXT # whatever the caller speaks to: images go to the engine of this machine
project=${PROJECT:-/vagrant}
prefix=/opt/meshnet
manager=
if [ "${1:-}" = --manager ]; then manager=yes; shift; fi

# Vagrant gives a machine's own name the address 127.0.2.1; the others' names are unknown to it.
for host in "$@"; do
  name=${host%%=*} address=${host#*=}
  [ "$name" = "$(hostname)" ] || grep -q "[[:space:]]$name\$" /etc/hosts || echo "$address $name" >> /etc/hosts
done

packages=(docker.io nftables libnftables1 iproute2 iptables conntrack kmod procps python3-venv
          busybox-static tini curl bind9-dnsutils apparmor)
if [ -n "$manager" ]; then
  packages+=(etcd-server)
  systemctl mask --quiet etcd.service # Debian's own; meshnet-manager starts one of its own on the same ports
fi
mapfile -t missing < <(for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
done)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# What is installed is known by the digest of the sources. Wheels are built once: the first host leaves them in
# $prefix/wheels.tar, the Vagrantfile carries them to the others, and they count as long as the sources are those.
sources=$(bash "$project/vagrant/sources" "$project")
if [ "$(cat $prefix/sources 2>/dev/null)" != "$sources" ]; then
  [ ! -e $prefix/sources ] || again=yes
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  [ -x $prefix/bin/python ] || python3 -m venv $prefix
  pip() { $prefix/bin/pip --quiet --disable-pip-version-check "$@"; }
  carried=$project/vagrant/wheels.tar
  if [ "$(tar -xOf "$carried" ./sources 2>/dev/null)" = "$sources" ]; then
    echo "taking meshnet's wheels from another host"
    tar -xf "$carried" -C "$work"
  else
    echo "building meshnet"
    pip wheel --wheel-dir "$work" "$project"
    echo "$sources" > "$work/sources"
  fi
  echo "installing meshnet into $prefix"
  pip install --no-index --find-links "$work" --upgrade --force-reinstall --no-deps "$work"/meshnet-*.whl
  pip install --no-index --find-links "$work" "$work"/meshnet-*.whl
  tar -cf $prefix/wheels.tar -C "$work" .
  echo "$sources" > $prefix/sources
fi
ln -sf $prefix/bin/meshnet /usr/local/bin/meshnet

$prefix/bin/python -m meshnet_control.lab.images
meshnet up --install
[ -z "${again:-}" ] || meshnet restart # with what is on the disk now

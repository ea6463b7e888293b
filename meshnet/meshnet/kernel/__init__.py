"""The only doors to the kernel: rtnetlink, nftables, namespaces, sysctl."""

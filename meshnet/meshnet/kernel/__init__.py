"""The only adapters to the kernel: rtnetlink, nftables, namespaces, sysctl."""

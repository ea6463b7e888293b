"""nftables objects and transactions as values."""

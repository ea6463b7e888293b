"""Virtual IPs and the ingress routing mesh."""

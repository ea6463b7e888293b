"""The Docker Engine API on a unix socket."""

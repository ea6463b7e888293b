"""The resolver at 127.0.0.11."""

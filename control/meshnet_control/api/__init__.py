"""The protobuf messages that mirror the Engine API."""

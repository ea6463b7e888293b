"""The protobuf messages that managers, nodes and the store share; they mirror the Engine API.

Imported by every room but host and lab; imports none.
"""

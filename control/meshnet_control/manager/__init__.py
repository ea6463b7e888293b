"""What a manager runs: the gRPC server of 2377, the leader's loop, the dispatcher, log broker.

Imported by node and gateway; imports orchestrate, identity, store, cluster and api.
"""

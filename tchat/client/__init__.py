"""The client without a user interface: session, replicas, messages, file transfers."""

"""The client without a screen: sessions, replicas, files and bots."""

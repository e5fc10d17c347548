"""Connections, groups and transfers: everything that runs while a server is up."""

"""The client without a screen, against a real server."""

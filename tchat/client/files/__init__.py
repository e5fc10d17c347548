"""Files at the client: what is sent, what is saved, in which order."""

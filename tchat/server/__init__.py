"""The running server: accepts connections, orders each group's commands, fans out its events."""

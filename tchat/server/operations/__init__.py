"""The operator's commands: reports, backups, checks, and changes of a server's data."""

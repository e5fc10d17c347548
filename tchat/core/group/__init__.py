"""A group: its commands, its events, its rules, and the fold over its log."""

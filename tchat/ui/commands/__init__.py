"""The slash commands: a module for each topic, with one row and a handler for each command."""

"""The commands that people type, a module for each topic."""

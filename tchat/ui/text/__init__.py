"""Measuring and completing text for a terminal."""

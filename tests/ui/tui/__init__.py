"""Tests of tchat.ui.tui."""

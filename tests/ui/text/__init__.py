"""Tests of tchat.ui.text."""

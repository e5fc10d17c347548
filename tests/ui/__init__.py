"""Tests of tchat.ui, and their helpers: models and pictures, golden screens, terminals."""

"""Tests of tchat; README.md explains how they are built and run."""

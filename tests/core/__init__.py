"""Tests of tchat.core: groups, frames and text; no Trio, no I/O."""

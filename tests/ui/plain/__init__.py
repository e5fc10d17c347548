"""Tests of the plain front end's input and output."""

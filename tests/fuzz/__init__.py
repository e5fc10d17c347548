"""Coverage-guided fuzzing of everything that decodes bytes from elsewhere.

`targets` has a function for each decoder, which fails if a promise is broken. `python -m tests.fuzz
TARGET` runs it with atheris (the extra `fuzz`), beginning with its corpus. The suite replays every
corpus.
"""

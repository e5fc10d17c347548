"""Both ends of a file transfer: pieces, running digests, partial files."""

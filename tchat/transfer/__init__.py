"""File transfers: pieces, running digests, partial files, and both ends of a transfer."""

"""A file on its way: pieces, their digests, and how both ends make sure of them."""

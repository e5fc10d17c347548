"""Network: addresses, non-blocking sockets, TLS, identity keys, and links that carry frames."""

"""The pure core: protocol, groups with their rules and state, text. No I/O, clock or randomness."""

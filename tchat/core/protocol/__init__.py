"""The wire protocol: framing, frame schema and types, and the messages of the handshake."""

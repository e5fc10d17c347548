"""The wire: frames, their bytes, their schema, and how a connection begins."""

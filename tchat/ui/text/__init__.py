"""Text for a terminal: cell widths and line wrapping, typed file paths and their completion."""

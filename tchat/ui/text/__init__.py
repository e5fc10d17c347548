"""Text for a terminal: cell widths, line wrapping, fallbacks to ASCII, file paths as typed."""

"""The chat without a screen: windows, lines, transcripts, commands."""

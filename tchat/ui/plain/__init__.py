"""The chat as lines of text, and one-shot commands."""

"""Plain front end (lines of text) and the one-shot commands send and get."""

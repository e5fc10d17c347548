"""The rules and the words: what is true of groups, frames and text without any Trio."""

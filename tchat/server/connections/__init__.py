"""One task per connection: handshake, chat requests, history, files, transfers."""

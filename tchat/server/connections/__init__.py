"""One task per connection: handshake, chat, history, file transfers."""

"""Door for IRC clients: `tchat irc` listens on loopback and shows the server as an IRC network."""

"""Public API: `import tchat` to write bots and programs that join a chat like people."""

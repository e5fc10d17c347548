"""What people see: one controller, and two faces for it, curses and plain lines."""

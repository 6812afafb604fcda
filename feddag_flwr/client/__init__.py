"""What a client does: one session a message, one action for each kind of message."""

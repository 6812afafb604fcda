"""A federation of real processes: its keys and certificates, and the commands around them."""

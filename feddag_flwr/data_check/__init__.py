"""What a client's owner wants to know before joining: is the data good, and what will be learned.

The command is ``feddag-flwr check-data``. Nothing here talks to a server.
"""

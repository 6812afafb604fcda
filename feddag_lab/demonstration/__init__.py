"""A real federation as local processes, to demonstrate, measure and harm."""

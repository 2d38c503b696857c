"""What the store can do: one capability a file, each with its statements, blind to the others."""

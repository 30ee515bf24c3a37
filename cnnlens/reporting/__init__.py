"""A network, what it makes of some inputs, and what a check or a diff found, as one page that opens from disk."""

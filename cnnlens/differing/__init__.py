"""Two models held against each other: which parts of them are one, and what turned one's arrays into the other's."""

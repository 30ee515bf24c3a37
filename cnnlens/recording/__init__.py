"""Feature maps kept on disk: made by a backend batch by batch, opened lazily, verified, gone on with after a kill."""

"""What runs a model, and the process it runs in: the seam that adapters answer, workers, how a network crosses."""

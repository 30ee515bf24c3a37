"""What is wrong with a layer that is not rounding: hypotheses by family, and the one sentence that explains most."""

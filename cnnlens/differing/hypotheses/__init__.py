"""What may have happened to an array, each with its test: another layout, order, format, factor, or training."""

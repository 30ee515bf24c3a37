"""Statistics of feature maps over a data set, in one pass and without keeping a map: per layer and channel."""

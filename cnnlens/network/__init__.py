"""A model without a framework: layers, weights, kernels, and the graph of which feeds which."""

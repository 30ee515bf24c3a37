"""Keras' model files: which stored array is which weight of which layer, and the graph that the config tells."""

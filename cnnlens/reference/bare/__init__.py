"""Bare operations of a Keras graph, such as ``x + y`` or ``keras.ops.relu``: what each name computes."""

"""The layout detective: which parts of two models are one, and what turned the arrays of one into the other's.

Kept apart from the faults of a layer (``cnnlens.faults``): there numbers that were computed are on trial, here numbers
that were stored.
"""

"""A model of one framework as one of the other, or its weights in a model that is there, proved before writing."""

from __future__ import annotations

from cnnlens.conversion.converter import Conversion, convert

__all__ = ["Conversion", "convert"]

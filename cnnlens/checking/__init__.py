"""When is a difference rounding, and when is it a fault? The audit of one layer, and the comparison of two recordings.

Not ``allclose``: fixed tolerances reject most correct TF32 results and accept real faults at large fan-in. Each layer
is computed in float64 from its own recorded inputs, and errors are measured in units of the rounding noise that
float32 must leave there; so no error is inherited, and one number tells rounding from a fault.
"""

from __future__ import annotations

from cnnlens.checking.finding import Verdict
from cnnlens.checking.pairs import Comparison, pairwise
from cnnlens.checking.verdict import Audit, audit

__all__ = ["Audit", "Comparison", "Verdict", "audit", "pairwise"]

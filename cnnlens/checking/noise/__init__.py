"""How far honest arithmetic goes: the rounding that a layer must leave in each number format, in bits."""

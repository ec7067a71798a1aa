"""How things that ship were made; none of it is in the wheel."""

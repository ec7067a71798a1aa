"""The architecture families whose encoders can be cut out; one file each."""

from encoder_tools.families.registry import FAMILIES, family_of

__all__ = ["FAMILIES", "family_of"]

"""The demonstration: texts that ship with the package, and what is built from them on the first start."""

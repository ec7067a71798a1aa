"""The one training loop of the house: slices of bounded time, exact resume, one log; needs the extra ``train``."""

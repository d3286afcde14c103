"""Paper Digest: the morning's papers, ranked for each reader, in their inbox at their hour."""

__version__ = "0.1.0"

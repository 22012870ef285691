"""Fully connected ReLU networks trained by alternating nonnegative matrix factorizations."""

__version__ = "0.1.0"

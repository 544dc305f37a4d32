"""Delivers what an accounting database records to InBoost, exactly once in effect, in order per customer."""

__version__ = "0.1.0"

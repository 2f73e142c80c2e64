"""Claims and comparisons as programs that print what they find."""

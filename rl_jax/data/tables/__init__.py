"""Datasets of Hugging Face on this disk: rows of Arrow or Parquet."""

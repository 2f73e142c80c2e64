"""A run in a folder: recipe, training, resume, evaluation, embedding."""

"""Training: a table read, a model fitted, its figures. Nothing here is needed to serve."""

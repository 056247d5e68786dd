"""Two models of one question, compared: for callers, on a table, and in whom they choose."""

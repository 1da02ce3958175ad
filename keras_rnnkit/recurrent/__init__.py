"""Cells and layers that show every state, on every path."""

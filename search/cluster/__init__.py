"""A cluster's head node, reached from a laptop."""

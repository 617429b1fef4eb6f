"""WHAT exists: the tables, the products, and the binding of the environment."""

"""A Bento that answers predictions of one tabular model."""

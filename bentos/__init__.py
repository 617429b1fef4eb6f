"""The serving side: generic Bento services for promoted models."""

"""The flights domain: what left New York in 2013, as tables that products share."""

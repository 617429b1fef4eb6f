"""The environment: resources, arrival of days, automation."""

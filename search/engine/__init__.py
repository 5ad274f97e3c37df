"""The driver, and one session of a study."""

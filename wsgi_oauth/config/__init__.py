"""The settings: their names and defaults, how the environment is read, and what is checked."""

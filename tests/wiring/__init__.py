"""Every key of the settings page, changed once, and what a user sees of it."""

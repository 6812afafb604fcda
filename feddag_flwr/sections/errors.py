"""What is wrong with settings."""


class SettingsError(ValueError):
    """A setting is unknown, out of range or at odds with another one."""

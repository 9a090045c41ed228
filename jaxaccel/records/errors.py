"""What a command is asked for and can't do."""


class BadInputError(ValueError):
    """The command asks for what can't be; the message is one line for its author."""

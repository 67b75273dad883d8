"""The one exception that adrpo raises for a mistake that the user can mend."""


class AdrpoError(Exception):
    """A mistake that the user can mend.

    The message is one line: what was expected, what was received, where, and what to do. The
    command line prints it without a traceback and exits with code 2.
    """

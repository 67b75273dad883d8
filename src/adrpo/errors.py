"""The one exception that adrpo raises for a mistake that the user can mend, and its warning."""


class AdrpoError(Exception):
    """A mistake that the user can mend.

    The message is one line: what was expected, what was received, where, and what to do. The
    command line prints it without a traceback and exits with code 2.
    """


class AdrpoWarning(UserWarning):
    """Something that the user should know of a work that goes on.

    The message is one line. The command line prints it without the place in the code that it
    comes from.
    """

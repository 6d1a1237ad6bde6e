"""The one exception that is for people."""


class UserError(Exception):
    """A mistake of the user: one clear sentence that names the file or flag and the remedy.

    The entry points in ``launch/`` print it without a traceback and exit with status 2.
    """

"""Every flag of the program."""

from apps.chatbot import serve_flags, table


def define_flags() -> None:
    """Declare every flag of the program."""
    table.define(table.TABLE)
    serve_flags.define()

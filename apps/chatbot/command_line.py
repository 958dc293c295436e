"""Every flag of the program."""

from apps.chatbot import table


def define_flags() -> None:
    """Declare every flag of the program."""
    table.define(table.TABLE)

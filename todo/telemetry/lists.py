"""What is recorded of lists: where their pages come from."""

from enum import StrEnum

from blinker import Signal


class PageSource(StrEnum):
    """Who has the newest state of a page: the client itself, this process, or PostgreSQL alone."""

    CLIENT = "client"
    KEPT = "kept"
    DATABASE = "database"


# Sent with the PageSource of each page of a list.
page_found = Signal()

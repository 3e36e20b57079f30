"""The tables, and the only code that reads or writes them. Rows never leave this package: values do."""

from .agents import Greeting
from .engine import StaleMoveError
from .moves import Changed
from .reports import Batch, Recorded
from .store import Store, open_store

__all__ = ["Batch", "Changed", "Greeting", "Recorded", "StaleMoveError", "Store", "open_store"]

"""The tables, and the only code that reads or writes them. Rows never leave this package: values do."""

from .agents import Greeting
from .moves import Changed
from .reports import Batch, Recorded
from .store import Store, open_store
from .tasks import StaleMoveError

__all__ = ["Batch", "Changed", "Greeting", "Recorded", "StaleMoveError", "Store", "open_store"]

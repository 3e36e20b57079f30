"""What ends the demo early. The text is for the person who ran it."""


class DemoError(Exception):
    """The demo cannot go on, or the world is not as it should be."""


class DifferenceError(DemoError):
    """What a service or the controller says is not what the step should have brought about."""

    def __init__(self, what: str, expected: object, found: object) -> None:
        self.what, self.expected, self.found = what, expected, found
        super().__init__(f"{what}: expected {expected}, found {found}")


class DaemonError(DemoError):
    """A daemon does not come up, or ended when nobody asked it to."""

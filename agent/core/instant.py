"""A moment that survives a reboot: exact within one boot, by the wall clock across boots."""

from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Instant(BaseModel):
    """`boot_s` counts from the boot named by `boot_id`; `wall` is only asked when the boots differ."""

    model_config = ConfigDict(frozen=True)

    boot_id: str
    boot_s: float
    wall: AwareDatetime

    def after(self, seconds: float) -> "Instant":
        """The moment `seconds` later."""
        return Instant(boot_id=self.boot_id, boot_s=self.boot_s + seconds, wall=_shift(self.wall, seconds))

    def seconds_to(self, later: "Instant") -> float:
        """How long from here to `later`; negative when it is earlier."""
        if self.boot_id == later.boot_id:
            return later.boot_s - self.boot_s
        return (later.wall - self.wall).total_seconds()


def _shift(moment: datetime, seconds: float) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:  # a budget of ages: as late as can be said
        return datetime.max.replace(tzinfo=moment.tzinfo)

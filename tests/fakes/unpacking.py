"""Unpacking an archive that is at hand as bytes, as the agent does it."""

from pathlib import Path

from agent.unpack import Limits, unpack


async def unpack_bytes(data: bytes, dest: Path, limits: Limits | None = None) -> None:
    """Unpack into `dest`, by way of a file beside it. Raises as agent.unpack.unpack."""
    with dest.with_name("package").open("w+b") as package:
        package.write(data)
        await unpack(package, dest, limits)

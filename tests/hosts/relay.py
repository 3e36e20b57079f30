"""A bad cable: carries frames between a host's port and a tap in the lab's bridge, late or not at all.

    relay.py PORT TAP LOST_IN LOST_OUT DELAY_MS

A kernel need not have netem. Standard library alone: it runs by the system's python3. Loss is of a hundred,
`in` what goes to the host."""

import contextlib
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import sys
import time

PACKET_VNET_HDR = 15
SOL_PACKET = 263
ETH_P_ALL = 3
TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI_VNET_HDR = 0x0002 | 0x1000 | 0x4000
PACKET_OUTGOING = 4
MAX_FRAME_BYTES = 70_000  # segments are cut by nobody on a virtual cable


def open_port(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)  # what is left to the card to do stays with the frame
    port.bind((name, ETH_P_ALL))
    port.setblocking(False)
    return port


def open_tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI_VNET_HDR))
    return tap


class Cable:
    """Frames under way, in order."""

    def __init__(
        self, port: socket.socket, tap: int, lost_in: float, lost_out: float, delay_s: float
    ) -> None:
        self._port, self._tap, self._delay_s = port, tap, delay_s
        self._lost = {"in": lost_in, "out": lost_out}
        self._under_way: list[tuple[float, int, str, bytes]] = []
        self._number = 0

    def take(self, way: str, frame: bytes) -> None:
        if random.uniform(0, 100) >= self._lost[way]:
            self._number += 1
            heapq.heappush(self._under_way, (time.monotonic() + self._delay_s, self._number, way, frame))

    def wait_s(self) -> float:
        return max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else -1.0

    def deliver(self) -> None:
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            _, _, way, frame = heapq.heappop(self._under_way)
            with contextlib.suppress(OSError):  # a port that is down loses it, as a cable would
                if way == "in":
                    self._port.send(frame)
                else:
                    os.write(self._tap, frame)


def carry(port: socket.socket, tap: int, cable: Cable) -> None:
    poll = select.epoll()
    poll.register(port, select.EPOLLIN)
    poll.register(tap, select.EPOLLIN)
    while True:
        for file, _ in poll.poll(cable.wait_s()):
            with contextlib.suppress(OSError):
                if file == tap:
                    cable.take("in", os.read(tap, MAX_FRAME_BYTES))
                else:
                    frame, address = port.recvfrom(MAX_FRAME_BYTES)
                    if address[2] != PACKET_OUTGOING:
                        cable.take("out", frame)
        cable.deliver()


def main() -> None:
    port, tap = open_port(sys.argv[1]), open_tap(sys.argv[2])
    lost_in, lost_out, delay_ms = (float(number) for number in sys.argv[3:6])
    carry(port, tap, Cable(port, tap, lost_in, lost_out, delay_ms / 1000))


if __name__ == "__main__":
    main()

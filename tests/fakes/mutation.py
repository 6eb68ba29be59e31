"""How fuzzers spoil bytes."""

from __future__ import annotations

import random

TOO_MUCH = (
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\x0f",
)


def mutate(generator: random.Random, frame: bytearray) -> None:
    """Flip, cut, insert or repeat something, or plant a number that promises too much."""
    if not frame:
        return
    place = generator.randrange(len(frame))
    match generator.randrange(5):
        case 0:
            frame[place] ^= 1 << generator.randrange(8)
        case 1:
            del frame[place:]
        case 2:
            frame[place:place] = generator.randbytes(generator.randrange(1, 6))
        case 3:
            frame[place:place] = frame[place : place + generator.randrange(1, 20)]
        case _:
            number = generator.choice(TOO_MUCH)
            frame[place : place + len(number)] = number

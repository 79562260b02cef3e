"""How many threads PyTorch had better use for one step of a search.

Two threads may halve the time of a step on a quiet machine. Where other
processes keep the processor busy, they may take twenty times as long as one:
after each operation they wait for the one that was interrupted, and small
tensors make many operations. Whether anybody else is there cannot be asked, but
what a step takes can be measured.
"""

import contextlib
from collections import deque
from collections.abc import Iterator


class MeasuredThreads:
    """Finds the number of threads with which a step takes the least time.

    Begins with one. Twice as many are tried for a few steps, and kept if these
    take less time; and they are given up as soon as steps take longer than they
    did with fewer. What was given up is tried again later.

    Args:
        most: The greatest number of threads.

    Attributes:
        number: The number of threads for the next step.
    """

    STEPS = 4  # By which a number is judged.
    GAIN = 0.9  # What they must take at most, to be kept.
    LOSS = 1.3  # What makes them to be given up.
    COST = 0.05  # Of all the time, for trials that fail.

    def __init__(self, most: int) -> None:
        self.number = 1
        self._most = most
        self._last: deque[float] = deque(maxlen=self.STEPS)
        # What a step took with half as many.
        self._with_fewer: dict[int, float] = {}
        self._is_trial = False
        self._elapsed = 0.0
        self._next_trial = 0.0

    def note(self, seconds: float) -> None:
        """Notes what a step took, with `number` threads."""
        self._elapsed += seconds
        self._last.append(seconds)
        total, is_full = sum(self._last), len(self._last) == self.STEPS
        if self.number > 1:
            before = self.STEPS * self._with_fewer[self.number]
            most = self.GAIN if self._is_trial and is_full else self.LOSS
            if total > most * before:
                # Little is lost by a trial that changes nothing.
                self._give_up(max(total - before, before / 4))
                return
        if is_full and self._is_trial:
            self._is_trial = False
        elif (
            is_full
            and 2 * self.number <= self._most
            and self._elapsed >= self._next_trial
        ):
            self._with_fewer[2 * self.number] = total / self.STEPS
            self._is_trial = True
            self._use(2 * self.number)

    def _give_up(self, cost: float) -> None:
        self._next_trial = self._elapsed + cost / self.COST
        self._is_trial = False
        self._use(self.number // 2)

    def _use(self, number: int) -> None:
        self.number = number
        self._last.clear()


@contextlib.contextmanager
def number_of_threads_kept() -> Iterator[None]:
    """Puts PyTorch's number of threads back to what it was, in any case."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)

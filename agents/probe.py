"""A bundle tried in a process of its own, with limits, before it comes near one that serves.

`probe` starts `python -m agents.probe`, hands it the bytes, and reads one JSON object back. A graph that takes all
memory, never ends or crashes the runtime ends that process and nothing else.
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents import checks
from agents.bundle import MAX_BYTES, Bundle, BundleError, Card, unpack
from agents.policy import Array, Mask, Observation, Policy
from agents.runtime import load

# Of the processor, and of the clock: on a busy machine the first seconds go into starting.
CPU_SECONDS, SECONDS = 20, 60
MEMORY_BYTES = 4 * 2**30
ROWS = 64
MAX_ANSWER = 10_000


def probe(data: bytes, seconds: float = SECONDS) -> Bundle:
    """The bundle in these bytes, after it has kept the laws of policies in a child process.

    Raises:
        BundleError: what unpacking, loading or serving it said; or the child crashed or exceeded its limits.
    """
    bundle = unpack(data)
    command = [sys.executable, "-I", "-m", "agents.probe"]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise BundleError(f"the bundle was not tried within {seconds:g} s: its graph is too slow to serve") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout[:MAX_ANSWER])
    except json.JSONDecodeError:
        raise BundleError(f"the bundle ended the process that tried it (status {done.returncode})") from None
    if answer.get("digest") != bundle.digest:
        raise BundleError(str(answer.get("error", "the probe gave no reason")))
    return bundle


def attempt(data: bytes) -> dict[str, Any]:
    """What the child answers: the digest of a bundle that keeps every law, or the error."""
    try:
        bundle = unpack(data)
        policy = load(bundle)
        card = bundle.card
        rng = np.random.default_rng(0)
        low = np.array([field.low if field.low is not None else -1e3 for field in card.observation])
        high = np.array([field.high if field.high is not None else 1e3 for field in card.observation])
        rows = low + (high - low) * rng.random((ROWS, len(low)))
        if card.kind == "table":
            # A table knows its states only, and whole numbers are the usual ones.
            rows = np.tile(low, (ROWS, 1))
        for place in {0, card.actions.factors - 1}:
            checks.check(_OneList(policy, place, card), rows.astype(np.float32), np.ones((ROWS, card.actions.n), bool))
    except BundleError as error:
        return {"error": str(error)[:2000]}
    except (ValueError, AssertionError, RuntimeError, MemoryError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:2000]}
    return {"digest": bundle.digest}


@dataclass(frozen=True)
class _OneList:
    """One of the lists of probabilities that a policy gives side by side; the only one, for most policies."""

    policy: Policy
    place: int
    card: Card

    @property
    def kind(self) -> str:
        """The policy's own."""
        return self.policy.kind

    def probabilities(self, observation: Observation, allowed: Mask) -> Array:
        """Probabilities (n, a) of this list, all actions of the others being allowed."""
        n, factors = self.card.actions.n, self.card.actions.factors
        every = np.ones((len(allowed), factors, n), bool)
        every[:, self.place] = allowed
        found = self.policy.probabilities(observation, every.reshape(len(allowed), -1))
        return found.reshape(len(allowed), factors, n)[:, self.place]


def main() -> None:
    """Read a bundle from standard input, answer on standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(json.dumps(attempt(sys.stdin.buffer.read(MAX_BYTES + 4096))))


if __name__ == "__main__":
    main()

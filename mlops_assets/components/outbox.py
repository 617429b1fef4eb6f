"""Messages on their way: each is sent once to each address, tried again where one does not answer.

What became of a message stands in the event log, as observations on the asset
`platform/notifications`: there the UI shows it, and there the next look finds what was sent
already. So two sensors, or one that was killed, send nothing twice that was written down; a process
killed between sending and writing sends again, which is better than never.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from mlops_assets.stores.notifications import Message, Notifier, Outcome

NOTIFICATIONS = dg.AssetKey(["platform", "notifications"])
_STATE = "state"
"""Metadata with all that the next look must know."""
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 30.0
"""Pause before the second attempt; each further one is four times as long."""
MOST_AT_ONCE = 8
"""Messages sent in one look: an address that does not answer takes eight seconds."""
_REMEMBERED = 2000

log = logging.getLogger("mlops")


@dataclass(frozen=True)
class Kept:
    """The newest word on a message."""

    message: Message
    attempt: int
    undelivered: tuple[str, ...]
    at: float

    def is_due(self, now: float) -> bool:
        """Whether it is to be tried again."""
        pause = FIRST_PAUSE_SECONDS * 4 ** (self.attempt - 1)
        return bool(self.undelivered) and self.attempt < ATTEMPTS and now >= self.at + pause


class Outbox:
    """The messages of one instance."""

    def __init__(self, instance: dg.DagsterInstance, notifier: Notifier) -> None:
        self._instance, self._notifier = instance, notifier
        self._kept = _read(instance)

    def waiting(self, messages: Iterable[Message]) -> list[Message]:
        """Those that nobody has been told of."""
        return [m for m in {m.key: m for m in messages}.values() if m.key not in self._kept]

    def send(self, messages: Iterable[Message]) -> list[str]:
        """Send each that is new, and what is due again; return a line on each."""
        again = [kept for kept in self._kept.values() if kept.is_due(time.time())]
        said = [self._attempt(message, 1, None) for message in self.waiting(messages)]
        for kept in again[: max(0, MOST_AT_ONCE - len(said))]:
            said.append(self._attempt(kept.message, kept.attempt + 1, kept.undelivered))
        return said

    def _attempt(self, message: Message, attempt: int, only: tuple[str, ...] | None) -> str:
        outcome = self._notifier.send(message, only)
        said = _in_words(outcome, attempt, len(self._notifier))
        log.log(
            logging.WARNING if outcome.undelivered else logging.INFO,
            "%s: %s (%s)", message.title, message.body, said,
        )  # fmt: skip
        open_ones = list(outcome.undelivered)
        self._instance.report_runless_asset_event(
            dg.AssetObservation(
                NOTIFICATIONS,
                description=f"{message.title}: {said}",
                metadata={
                    "title": message.title,
                    "body": message.body,
                    "link": dg.MetadataValue.url(message.link),
                    "outcome": said,
                    _STATE: dg.MetadataValue.json(
                        {
                            "message": asdict(message),
                            "attempt": attempt,
                            "undelivered": open_ones,
                        }
                    ),
                },
            )
        )
        self._kept[message.key] = Kept(message, attempt, tuple(open_ones), time.time())
        return f"{message.title}: {said}"


def _in_words(outcome: Outcome, attempt: int, addresses: int) -> str:
    if not outcome.delivered and not outcome.undelivered:
        return "shown here only, no address is configured" if not addresses else "address is gone"
    said = [f"sent to {len(outcome.delivered)}"] if outcome.delivered else []
    if outcome.undelivered:
        last = "given up" if attempt >= ATTEMPTS else f"attempt {attempt} of {ATTEMPTS}"
        said.append(f"not delivered, {last}: {'; '.join(outcome.undelivered.values())}")
    return "; ".join(said)


def _read(instance: dg.DagsterInstance) -> dict[str, Kept]:
    found: dict[str, Kept] = {}
    records = instance.fetch_observations(NOTIFICATIONS, limit=_REMEMBERED).records
    for record in records:  # newest first
        observation = record.asset_observation
        if observation is None or _STATE not in observation.metadata:
            continue
        state: Any = observation.metadata[_STATE].value
        message = Message(**state["message"])
        kept = Kept(message, state["attempt"], tuple(state["undelivered"]), record.timestamp)
        found.setdefault(message.key, kept)
    return found

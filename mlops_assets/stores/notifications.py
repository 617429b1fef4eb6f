"""Messages to people, through Apprise: e-mail, chat, a webhook, whatever its URLs name.

The addresses are in the environment variable MLOPS_NOTIFY, separated by spaces or commas. They
hold secrets, anywhere in them, so they are never logged nor shown: an address is known by a short
hash, and named by its place and its scheme. Sending never raises; what was not delivered is in the
outcome.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apprise import NotifyBase

VARIABLE = "MLOPS_NOTIFY"
_BETWEEN = re.compile(r"\s*,\s*(?=[a-zA-Z][\w+.-]*://)|\s+")
_LEVELS = {"info": "info", "good": "success", "attention": "warning", "bad": "failure"}


@dataclass(frozen=True)
class Message:
    """What a person is told: `body` in plain words, `link` where to look.

    `key` names the event; the same event has the same key, whoever sees it. `level` is info, good,
    attention or bad.
    """

    key: str
    title: str
    body: str
    link: str
    level: str = "info"


@dataclass(frozen=True)
class Outcome:
    """What became of a message: addresses (by hash) that have it, and that do not, with reasons."""

    delivered: tuple[str, ...] = ()
    undelivered: dict[str, str] = field(default_factory=dict)


class Notifier:
    """Sends messages to the addresses that it was given; one that is no address is a problem."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._targets: dict[str, _Target] = {}
        self.problems: list[str] = []
        for number, url in enumerate(urls, 1):
            plugin = _plugin(url)
            if plugin is None:
                scheme = url.split("://")[0] if "://" in url else "no scheme"
                self.problems.append(
                    f"address {number} of {len(urls)} in {VARIABLE} ({scheme}) is none that Apprise"
                    " can use"
                )
            else:
                shown = f"address {number} ({url.split('://')[0]})"
                self._targets[_hash(url)] = _Target(shown, url, plugin)

    @classmethod
    def from_environment(cls) -> Notifier:
        """The addresses of `MLOPS_NOTIFY`; none where it is not set."""
        return cls([url for url in _BETWEEN.split(os.environ.get(VARIABLE, "").strip(", ")) if url])

    def __len__(self) -> int:
        return len(self._targets)

    def send(self, message: Message, only: Collection[str] | None = None) -> Outcome:
        """Send to each address, or to those of `only` (hashes) that are still configured."""
        delivered, undelivered = [], {}
        for name, target in self._targets.items():
            if only is not None and name not in only:
                continue
            if reason := target.send(message):
                undelivered[name] = f"{target.shown}: {reason}"
            else:
                delivered.append(name)
        return Outcome(tuple(delivered), undelivered)


@dataclass(frozen=True)
class _Target:
    shown: str
    url: str
    plugin: NotifyBase

    def send(self, message: Message) -> str:
        """Send; return why it failed, without secrets, or nothing."""
        with _warnings_of_apprise() as said:
            try:
                sent = self.plugin.notify(
                    body=f"{message.body}\n{message.link}",
                    title=message.title,
                    notify_type=_LEVELS[message.level],
                )
            except Exception as error:
                # A plugin of another's making must not end who sends.
                return self._without_secrets(f"{type(error).__name__}: {error}")
        return "" if sent else self._without_secrets(" ".join(said) or "it was refused")

    def _without_secrets(self, text: str) -> str:
        for piece in re.split(r"[:/@?&=,]+", self.url)[1:]:
            if len(piece) > 3:
                text = text.replace(piece, "…")
        return text


def _plugin(url: str) -> NotifyBase | None:
    import apprise

    # Apprise loads all its plugins at the first address; what they warn of is their own code.
    with _warnings_of_apprise(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found: NotifyBase | None = apprise.Apprise.instantiate(url)
    return found


def _hash(url: str) -> str:
    return sha256(url.encode()).hexdigest()[:12]


@contextmanager
def _warnings_of_apprise() -> Iterator[list[str]]:
    """Keep what is logged of an address, by Apprise or of its requests, from the log.

    Gives the warnings.
    """
    said: list[str] = []
    handler = _Kept(said)
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield said
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Kept(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())

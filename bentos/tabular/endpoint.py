"""What answers HTTP: `/predict`, `/predict_batch`, readiness, metrics and the document.

A plain ASGI middleware before BentoML's own routes, which keep the liveness probes and the page at
`/`. The body is decoded to the contract's type by msgspec in one step; everything else that can be
wrong is a refusal with a status of its own. No traceback leaves the process.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bentos.tabular.batching import Batcher
from bentos.tabular.metrics import CONTENT_TYPE_LATEST, Metrics
from bentos.tabular.rows import (
    Problem,
    Refusal,
    many_problems,
    problems,
    utc,
    whole_numbers,
)
from bentos.tabular.scoring import Asked
from bentos.tabular.settings import Settings
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.online_store import OnlineStoreError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON = b"application/json"
_JSON_HEADER = (b"content-type", _JSON)
_CLOSE = (b"connection", b"close")
_SOON = [(b"retry-after", b"1")]
_logger = logging.getLogger("bentoml.tabular")
_encode = msgspec.json.Encoder().encode


class Drain:
    """Whether this process is about to end: each answer then asks its caller to connect anew."""

    begun = False


class Refused(Exception):
    """A request that is not answered."""

    def __init__(
        self,
        status: int,
        error: str,
        found: Iterator[Problem] | tuple[Problem, ...] = (),
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.headers = status, headers or []
        self.body = _encode(Refusal(error, list(found)))


@dataclass
class Service:
    """What the endpoint needs once the model is loaded."""

    contract: Contract
    settings: Settings
    batcher: Batcher[Asked, Any]
    metrics: Metrics
    document: bytes
    row: Any
    rows: Any
    not_ready: Callable[[], list[str]]
    """Why requests are not answered now; empty where they are."""


class Endpoint:
    """The middleware; `service` gives what BentoML has started, which is there before requests."""

    def __init__(self, app: App, service: Callable[[], Service]) -> None:
        self._app, self._service = app, service
        self._started: Service | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is ours, pass on what is BentoML's."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._started is None:
            self._start(self._service())
        path = scope["path"]
        if path == "/predict":
            await self._answer(scope, receive, send, path, self._predict)
        elif path == "/predict_batch":
            await self._answer(scope, receive, send, path, self._predict_batch)
        elif path in self._pages and scope["method"] in ("GET", "HEAD"):
            await _respond(send, *self._pages[path]())
        else:
            await self._app(scope, receive, send)

    def _start(self, service: Service) -> None:
        self._started = service
        self._row = msgspec.json.Decoder(service.row).decode
        self._rows = msgspec.json.Decoder(service.rows).decode
        self._tokens = [_digest(token.encode()) for token in service.settings.tokens]
        self._waiting = 0
        self._ask, self._metrics = service.batcher.ask, service.metrics
        self._pages: dict[str, Callable[[], Any]] = {
            "/readyz": self._readiness,
            "/metrics": lambda: (200, self._metrics.text(), [(b"content-type", _PROMETHEUS)]),
            "/docs.json": lambda: (200, service.document, [_JSON_HEADER]),
            "/openapi.json": lambda: (200, service.document, [_JSON_HEADER]),
        }

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        path: str,
        predict: Callable[[bytes], Awaitable[bytes]],
    ) -> None:
        begun = time.perf_counter()
        assert self._started is not None
        headers = [_JSON_HEADER]
        self._waiting += 1
        try:
            self._admit(scope)
            body = await _read(receive, self._started.settings.body_bytes)
            answer, status = await predict(body), 200
        except Refused as refused:
            answer, status = refused.body, refused.status
            headers += refused.headers
        except Exception as error:
            answer, status, more = _failure(error)
            headers += more
        finally:
            self._waiting -= 1
        if Drain.begun:
            headers.append(_CLOSE)
        await _respond(send, status, answer, headers)
        self._metrics.request(path, status, time.perf_counter() - begun)

    def _admit(self, scope: Scope) -> None:
        """Refuse what need not be read."""
        assert self._started is not None
        if scope["method"] != "POST":
            raise Refused(405, f"{scope['method']} is not answered here; use POST", (), _ALLOW)
        kind = token = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value
            elif name == b"authorization":
                token = value
        if self._tokens and not self._known(token):
            raise Refused(
                401, "a bearer token that is known here is needed", (), [(_CHALLENGE, b"Bearer")]
            )
        if kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
            said = kind.decode("latin-1")[:80] or "nothing"
            raise Refused(415, f"the body is said to be {said}; send application/json")
        if self._waiting > self._started.settings.most_at_once:
            raise Refused(429, f"{self._waiting - 1} requests wait already; try again", (), _SOON)

    def _known(self, header: bytes) -> bool:
        scheme, _, token = header.partition(b" ")
        digest = _digest(token.strip())
        # All are compared, so that the time does not tell which one was near.
        matches = [hmac.compare_digest(digest, known) for known in self._tokens]
        return scheme.lower() == b"bearer" and any(matches)

    async def _predict(self, body: bytes) -> bytes:
        try:
            row = self._row(body)
        except _UNFIT as error:
            row = self._second_look(body, error)
        (prediction,) = await self._ask([Asked.now(self._given(row))])
        self._metrics.answered((prediction,))
        return _encode(prediction)

    async def _predict_batch(self, body: bytes) -> bytes:
        try:
            rows = self._rows(body).rows
        except _UNFIT as error:
            rows = self._second_look(body, error, many=True).rows
        predictions = await self._ask([Asked.now(self._given(row)) for row in rows])
        self._metrics.answered(predictions)
        return _encode({"predictions": predictions})

    def _second_look(self, body: bytes, error: Exception, *, many: bool = False) -> Any:
        """What does not fit at first: taken where it does after all, else refused by name."""
        assert self._started is not None
        contract, wanted = self._started.contract, self._started.row
        try:
            said = msgspec.json.decode(body)
        except _UNREADABLE as unreadable:
            raise Refused(400, f"the body is no JSON: {unreadable}") from None
        if many:
            wanted = self._started.rows
            if isinstance(said, dict) and isinstance(said.get("rows"), list):
                said["rows"] = [whole_numbers(contract, row) for row in said["rows"]]
        else:
            said = whole_numbers(contract, said)
        try:
            return msgspec.convert(said, wanted)
        except (msgspec.ValidationError, OverflowError):
            found = list((many_problems if many else problems)(contract, said))
        names = ", ".join(problem.field for problem in found[:5])
        raise Refused(422, f"not as it must be: {names or error}", iter(found[:20]))

    def _given(self, row: Any) -> dict[str, Any]:
        given = msgspec.structs.asdict(row)
        for name, value in given.items():
            try:
                utc(value)
            except OverflowError:
                wrong = Problem(name, str(value), "a time that UTC can say")
                raise Refused(422, f"not as it must be: {name}", (wrong,)) from None
        return given

    def _readiness(self) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        assert self._started is not None
        reasons = self._started.not_ready()
        self._metrics.ready.set(not reasons)
        body = _encode({"ready": not reasons, "reasons": reasons})
        return (503 if reasons else 200), body, [_JSON_HEADER]


_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_UNFIT = (msgspec.ValidationError, OverflowError, *_UNREADABLE)
_PROMETHEUS = CONTENT_TYPE_LATEST.encode()
_ALLOW = [(b"allow", b"POST")]
_CHALLENGE = b"www-authenticate"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _failure(error: Exception) -> tuple[bytes, int, list[tuple[bytes, bytes]]]:
    """What a caller is told of an error within; the log has the rest."""
    if isinstance(error, OnlineStoreError):
        _logger.error("features cannot be looked up: %s", error)
        return _encode(Refusal("features cannot be looked up now")), 503, _SOON
    if isinstance(error, OSError):
        _logger.error("the request log cannot be written: %s", error)
        return _encode(Refusal("the request cannot be logged, so it is not answered")), 503, _SOON
    _logger.exception("a request failed", exc_info=error)
    return _encode(Refusal("the server failed; its log says why")), 500, []


async def _read(receive: Receive, most: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > most:
            raise Refused(413, f"the body has {len(body)} bytes, at most {most} are read")
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        if size > most:
            raise Refused(
                413, f"the body is larger than {most} bytes", (), [(b"connection", b"close")]
            )
        message = await receive()
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
    if size > most:
        raise Refused(413, f"the body has {size} bytes, at most {most} are read")
    return b"".join(parts)


async def _respond(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})

"""Does an object store keep the first of two writers to a name? A Delta log rests on it.

Two writers who commit the same version both write the same file, on condition that it is not there
yet (If-None-Match). A store that ignores the condition lets the second replace the first: a commit
is lost and nobody is told. So a lake in such a store is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex

_CLIENT = {"allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout"}
_OWN_LOCK = "aws_s3_locking_provider"
_DELTA = "aws_s3_"


class UnsafeStore(RuntimeError):
    """The object store lets a second writer replace what the first has written."""


def require_put_if_absent(uri: str, storage_options: Mapping[str, str]) -> None:
    """Make sure that the store of `uri` refuses a second conditional write; a folder always does.

    Writes and removes one object of two bytes. Options are those of `Lakehouse`; with a locking
    provider among them the log does not rest on the store, and nothing is tried.

    Raises:
        UnsafeStore: naming the store, if it accepts the second write.
        obstore.exceptions.BaseError: if the store cannot be reached or refuses the first.
    """
    options = {name.lower(): value for name, value in storage_options.items()}
    if "://" not in uri or uri.startswith(("file://", "memory://")) or _OWN_LOCK in options:
        return
    import obstore
    from obstore.exceptions import AlreadyExistsError
    from obstore.store import from_url

    client = {n: v for n, v in options.items() if n.removeprefix("aws_") in _CLIENT}
    config = {n: v for n, v in options.items() if n not in client and not n.startswith(_DELTA)}
    client = {name.removeprefix("aws_"): value for name, value in client.items()}
    store = from_url(uri, config=config, client_options=client)  # type: ignore[call-overload]
    name = f"_probe-{token_hex(8)}"
    obstore.put(store, name, b"1", mode="create")
    try:
        obstore.put(store, name, b"2", mode="create")
    except AlreadyExistsError:
        return
    finally:
        obstore.delete(store, name)
    raise UnsafeStore(
        f"the object store of {uri} ignores If-None-Match: it let a second writer replace what the"
        " first had written, which loses commits silently. Use a store that honours it (S3 itself,"
        " MinIO, GCS, Azure), or a newer version of this one; nothing was written to the lake"
    )

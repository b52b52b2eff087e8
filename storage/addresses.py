"""Addresses of stores: which are folders, which URLs are known, and what opens them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import from_url

from matting.errors import InputError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

WEB = ("http://", "https://")
SCHEMES = ("file://", "s3://", "gs://", "az://", *WEB)


def local_folder(url: str) -> Path | None:
    """Return the folder that a URL means, or None where it is not a local one.

    Raises:
        InputError: It is empty, as that of a variable that is not set; the working directory is
            meant by a dot only.
    """
    if not url.strip():
        raise InputError(
            "an address is empty",
            got=repr(url),
            expected="a folder or URL, e.g. ./store or s3://bucket/set",
            remedy="Check the variable that it came from; a dot means the working directory.",
        )
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).expanduser().resolve()
    return Path(rest) if scheme == "file" else None


def check_writable(url: str) -> None:
    """Raise InputError for a store on a web server, which is only read from."""
    if url.startswith(WEB):
        raise InputError(
            "a web server is only read from",
            got=url,
            expected="a folder or bucket that can be written",
            remedy="Give another --store.",
        )


def open_objects(url: str, retries: "RetryConfig") -> Any:
    """Return what reads and writes at a URL that is no folder.

    Args:
        url: It begins with one of `SCHEMES`.
        retries: How requests are repeated.

    Raises:
        InputError: It does not, or a setting of the storage in the environment is invalid.
    """
    options: ClientConfig | None = {"allow_http": True} if url.startswith("http://") else None
    try:
        # No request is made here: what fails is the address, or a setting of the environment.
        return from_url(url, retry_config=retries, client_options=options)
    except (BaseError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(
            "the address of a store cannot be used",
            got=f"{url}: {reason}",
            expected=f"a folder, or a URL that begins with {', '.join(SCHEMES)}",
            remedy="Check its spelling, and the settings of the storage in the environment.",
        ) from error

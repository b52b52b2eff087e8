"""A store as Zarr reads it."""

import zarr.storage
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from storage.store import Store, reading


class ZarrFiles(zarr.storage.ObjectStore):  # type: ignore[type-arg]
    """The files of a store for Zarr, for reading; its errors are those of `storage.errors`."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.objects, read_only=True)
        self._url = store.url

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a file or a part of it; None where it does not exist."""
        with reading(self._url, key):
            return await super().get(key, prototype, byte_range)

"""Published networks: folders that anybody can copy, upload and predict with.

    networks/<name>/files.json            what the folder holds, with SHA-256; written first
    networks/<name>/…                     model card, weights, ONNX file, MONAI bundle
    networks/<name>/config.json           as of the checkpoint; written last

Every file is written once. The list reserves the name for one publisher, and without config.json no
reader takes the folder for a network, so a kill leaves a reservation that the same command fills.
`config.json` and `weights.safetensors` are those of the checkpoint, so the folder is one.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from matting.errors import InputError
from storage.errors import AlreadyExistsError, CorruptionError, NotFoundError
from storage.layout import NETWORKS, is_safe_name, network_prefix
from storage.records import CheckpointConfig, FileEntry, FileList, encode, read_record
from storage.results.checkpoints import CONFIG, network_label
from storage.results.listed_files import FILE_LIST
from storage.results.onnx_files import ONNX_SUFFIX
from storage.store import Store, open_store

CARD = "README.md"
LICENSE_KEY = "license"
METADATA = "configs/metadata.json"
"""The bundle's description, which also states the license of the weights."""


def check_network_name(name: str) -> None:
    """Raise InputError for a name that cannot be a folder everywhere."""
    if not is_safe_name(name):
        raise InputError(
            "a network cannot be published under this name",
            got=repr(name),
            expected="letters, digits, dots, dashes and underscores, the first a letter or digit",
            remedy="Choose another name, e.g. nodules-3dmm-mg-1.",
        )


def find_network(store: Store, name: str) -> CheckpointConfig | None:
    """Read the configuration of a published network; None where there is none of this name.

    Raises CorruptionError.
    """
    try:
        return read_record(store, f"{network_prefix(name)}/{CONFIG}", CheckpointConfig)
    except NotFoundError:
        return None


def is_published(store: Store, name: str, digest: str, license_: str) -> bool:
    """Return whether a network is published under a name already.

    Args:
        store: Where.
        name: The name.
        digest: Of the network's checkpoint.
        license_: Of its weights.

    Raises:
        InputError: Another network, or this one under another license, has the name.
        CorruptionError: What has the name is damaged.
    """
    known = find_network(store, name)
    if known is None:
        return False
    if known.digest != digest:
        raise _taken(name, f"network {digest[:12]}", f"network {known.digest[:12]}")
    stated = _license(store, name)
    if stated != license_:
        raise _taken(name, f"license {license_ or 'none'}", f"license {stated or 'none'}")
    return True


def check_free(store: Store, name: str, content_key: Mapping[str, object]) -> None:
    """Raise InputError where the network of another training has a name.

    Args:
        store: Where.
        name: The name.
        content_key: What determines the training, before its network exists.
    """
    known = find_network(store, name)
    if known and known.content_key != content_key:
        label = network_label(known.variant, known.auxiliary)
        theirs = f"{label} {known.digest[:12]}, trained on release {known.release}"
        raise _taken(name, "the network of another training", theirs)


def write_network(store: Store, name: str, files: Mapping[str, bytes]) -> str:
    """Store a published network.

    Args:
        store: Where to.
        name: Of the network.
        files: By path below its folder, among them `CONFIG`.

    Returns:
        The folder.

    Raises:
        InputError: An unfinished folder of other content has the name.
    """
    prefix = network_prefix(name)
    listed = FileList(
        {
            path: FileEntry(hashlib.sha256(data).hexdigest(), len(data))
            for path, data in sorted(files.items())
        }
    )
    try:
        store.create(f"{prefix}/{FILE_LIST}", encode(listed))
        for path in sorted(files.keys() - {CONFIG}):
            store.create(f"{prefix}/{path}", files[path])
        store.create(f"{prefix}/{CONFIG}", files[CONFIG])
    except AlreadyExistsError as error:
        raise InputError(
            f"the folder of network {name} holds other files",
            got=f"{error.key}, which an interrupted or another command wrote",
            expected="no such file, or the same bytes",
            remedy=f"If no other command is publishing {name}, remove {store.url}/{prefix} and "
            "publish again; or choose another name.",
        ) from error
    return f"{store.url}/{prefix}"


def list_networks(store: Store) -> list[str]:
    """List the names of published networks."""
    names = store.list_dir(NETWORKS)[0]
    return [name for name in names if store.exists(f"{network_prefix(name)}/{CONFIG}")]


def locate_network(place: str, store_url: str | None) -> str:
    """Return the folder, file or URL of a network that a user named.

    Args:
        place: The name of a published network, or a folder, URL or file, which is returned as it
            is. A name is looked up in the store first; `./NAME` is a folder in any case.
        store_url: The store; None where none is known.

    Raises:
        InputError: There is no such network.
    """
    if not is_safe_name(place) or place.endswith(ONNX_SUFFIX):
        return place
    known = "no --store was given"
    if store_url:
        store = open_store(store_url)
        if store.exists(f"{network_prefix(place)}/{CONFIG}"):
            return f"{store.url}/{network_prefix(place)}"
        known = f"{store.url} has {', '.join(list_networks(store)) or 'none'}"
    if not Path(place).exists():
        raise InputError(
            "there is no such network",
            got=f"{place}; {known}",
            expected="the name of a published network, or a folder, a URL or a file model.onnx",
            remedy="Check the name and --store; `halosign train --publish NAME` publishes one.",
        )
    return place


def _taken(name: str, ours: str, theirs: str) -> InputError:
    return InputError(
        f"the name {name} is taken",
        got=ours,
        expected=f"{theirs}, which is published under it and never changes",
        remedy="Publish under another name.",
    )


def _license(store: Store, name: str) -> str:
    key = f"{network_prefix(name)}/{METADATA}"
    try:
        return str(json.loads(store.get(key))[LICENSE_KEY])
    except (NotFoundError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptionError(
            f"{store.url}/{key} is not the description of a network. {CheckpointConfig.remedy}",
            key=key,
        ) from error

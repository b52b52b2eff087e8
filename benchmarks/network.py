"""The network on real nodules: results of `halosign train` and `halosign evaluate` in a store.

    python -m benchmarks.network ./store 0.1.0 CHECKPOINT...

It needs a store with a release and trained networks, so `make bench` does not run it.
"""

from dataclasses import asdict

from benchmarks.measure import command_line, save, table
from storage.releases.reader import ReleaseReader
from storage.releases.release import open_release
from storage.results.checkpoints import checkpoint_prefix, read_checkpoint
from storage.results.scores import METHOD_SCORES, METRIC_NAMES, read_lines

SPLIT = "test"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("store")
    parser.add_argument("version")
    parser.add_argument("digests", nargs="+", metavar="CHECKPOINT", help="digest of a checkpoint")
    arguments = parser.parse_args()
    version, digests = arguments.version, arguments.digests
    reader = ReleaseReader(open_release(arguments.store, version))
    store = reader.release.store
    networks = {
        digest: read_checkpoint(f"{store.url}/{checkpoint_prefix(digest)}").config
        for digest in digests
    }
    members = reader.release.members.values()
    trained = {
        digest: {
            "variant": config.variant,
            "training": config.content_key["training"],
            "epochs": config.epochs,
            "nodules": config.nodules,
            "device": config.device,
        }
        for digest, config in networks.items()
    }
    lines = {what: read_lines(store, version, SPLIT, what) for what in (METHOD_SCORES, *digests)}
    report = {
        "stand_in": reader.release.manifest.synthetic,
        "nodules": {
            s: sum(member.split == s for member in members) for s in ("train", "validation", SPLIT)
        },
        "patients": {
            s: len({member.patient_id for member in members if member.split == s})
            for s in ("train", "validation", SPLIT)
        },
        "networks": trained,
        "lines": {what: [asdict(line) for line in found] for what, found in lines.items()},
    }
    save("network", report)
    for region in ("whole", "near", "unknown"):
        rows = [
            (
                line.matte if what == METHOD_SCORES else f"{line.matte} {what[:8]}",
                line.nodules,
                *(line.means[name] for name in METRIC_NAMES),
            )
            for what, found in lines.items()
            for line in found
            if line.region == region
        ]
        print(f"\n{SPLIT} split, {region}\n" + table(("matte", "nodules", *METRIC_NAMES), rows))


if __name__ == "__main__":
    main()

"""What `halosign store check` does and prints."""

from rich.console import Console
from rich.progress import track

from flows.engine.console import console, count_of
from storage.maintenance.quarantine import repair
from storage.maintenance.verify import Complaint, list_nodules, verify_nodules
from storage.maintenance.verify_records import verify_records
from storage.store import Store


def check_store(store: Store) -> list[Complaint]:
    """Verify a store and print what is wrong; returns the complaints."""
    nodules = list_nodules(store)
    verified = track(
        verify_nodules(store, nodules), "verifying", len(nodules), console=Console(stderr=True)
    )
    of_nodules = [complaint for found in verified for complaint in found]
    files = list(verify_records(store))
    of_files = [complaint for file in files for complaint in file.complaints]
    for complaint in (*of_nodules, *of_files):
        console.print(str(complaint), markup=False)
    damaged = {complaint.about for complaint in of_nodules}
    console.print(f"{count_of(len(nodules), 'nodule')} verified, {len(damaged)} damaged")
    damaged = {complaint.about for complaint in of_files}
    console.print(f"{len(files)} other files verified, {len(damaged)} damaged")
    earlier = sum(not file.has_checksum and not file.complaints for file in files)
    if earlier:
        console.print(
            f"{earlier} of them were written by an earlier version and carry no checksum: their "
            "form was verified, not their content"
        )
    return [*of_nodules, *of_files]


def repair_store(store: Store, complaints: list[Complaint]) -> None:
    """Set aside what is damaged, and print where it is and what is left to do."""
    folder, moved = repair(store, complaints)
    if moved:
        console.print(f"{len(moved)} files set aside in {store.url}/{folder}:", markup=False)
    for key in moved:
        console.print(f"  {key}", markup=False)
    left = sum(not complaint.aside for complaint in complaints)
    if left:
        console.print(f"{left} of the complaints are about what is missing; see their remedies")

"""The typed records of a store: everything it holds as JSON, checked where it is read.

Each class below is one kind of record. `read_record` reads a key as one of them and raises
CorruptionError for anything else: bytes that are not JSON, JSON of another shape, a missing or
unknown field, a value of another type. `encode` gives a record's bytes, which end in their own
SHA-256; records of earlier versions have none and are read all the same. Some fields are stored
under an older name, which is their alias here; the stored names never change.

JSON that is open by nature stays a `JsonObject`: the settings of a recipe, which are the recipe's
to check, and what a run describes of its code and losses.
"""

from storage.records.cases import (
    CandidateScores,
    CaseFacts,
    DoneMark,
    LidcFacts,
    Rating,
    SolverReport,
    TableFacts,
    TrimapFacts,
)
from storage.records.codec import (
    FIRST_EDITION,
    JsonObject,
    Readable,
    canonical_json,
    encode,
    is_sealed,
    parse_record,
    read_record,
    to_json,
)
from storage.records.files import FileEntry, FileList, StoreMarker
from storage.records.releases import (
    UNSTATED,
    About,
    Claim,
    ExportMarker,
    Manifest,
    Member,
    Withdrawal,
)
from storage.records.results import (
    CheckpointConfig,
    Cost,
    ExperimentFacts,
    IntensityRange,
    Line,
    ScoreSummary,
    Sha256,
    TrainerProgress,
    TrainingEnd,
    TrainingState,
    stored_auxiliary,
)
from storage.records.reviews import VERDICT_KINDS, Study, StudyItem, Verdict, VerdictKind
from storage.records.runs import SELECTION, Ending, Outcome, Run, State, to_the_second

__all__ = [
    "FIRST_EDITION",
    "SELECTION",
    "UNSTATED",
    "VERDICT_KINDS",
    "About",
    "CandidateScores",
    "CaseFacts",
    "CheckpointConfig",
    "Claim",
    "Cost",
    "DoneMark",
    "Ending",
    "ExperimentFacts",
    "ExportMarker",
    "FileEntry",
    "FileList",
    "IntensityRange",
    "JsonObject",
    "LidcFacts",
    "Line",
    "Manifest",
    "Member",
    "Outcome",
    "Rating",
    "Readable",
    "Run",
    "ScoreSummary",
    "Sha256",
    "SolverReport",
    "State",
    "StoreMarker",
    "Study",
    "StudyItem",
    "TableFacts",
    "TrainerProgress",
    "TrainingEnd",
    "TrainingState",
    "TrimapFacts",
    "Verdict",
    "VerdictKind",
    "Withdrawal",
    "canonical_json",
    "encode",
    "is_sealed",
    "parse_record",
    "read_record",
    "stored_auxiliary",
    "to_json",
    "to_the_second",
]

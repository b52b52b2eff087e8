"""The commands of networks: train on a release, evaluate, score any mattes, apply to a CT."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.commands import Commands
from flows.cli.options import SetOption, StoreOption, chosen_recipe
from matting.errors import InputError
from matting.parameters import Auxiliary

VersionOption = Annotated[str, typer.Option("--release", help="Published version, e.g. 0.1.0.")]
DeviceOption = Annotated[
    str, typer.Option(help="auto (the GPU, if there is one), cpu, cuda or cuda:1.")
]

network = Commands(section="Network")


@network.command(
    kept="the last stored state of the training is kept",
    epilog="Example: halosign train --release 0.1.0 --store ./store --epochs 20",
)
def train(
    release: VersionOption,
    store: StoreOption,
    variant: Annotated[str, typer.Option(help="3dmm, 3dmm-m or 3dmm-mg.")] = "3dmm-mg",
    auxiliary: Annotated[
        Auxiliary,
        typer.Option(
            help="The auxiliary masks: the matting head reads them (told), they are trained "
            "beside it only (untold, the daggers of Table 2), or there are none."
        ),
    ] = "told",
    no_aux: Annotated[bool, typer.Option("--no-aux", help="The same as --auxiliary none.")] = False,
    recipe: Annotated[
        str | None,
        typer.Option(help="YAML file; its section `training` is used.", show_default="paper"),
    ] = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs, in place of the recipe's.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--anew", help="Resume an interrupted training, or start again."),
    ] = True,
    negatives: Annotated[
        Path | None,
        typer.Option(
            help="CSV table of points far from any nodule (columns image, z, y, x): train on "
            "crops of CT around them too, so that the network also learns what is no nodule."
        ),
    ] = None,
    publish: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Publish the trained network under this name: a folder in the store with weights, "
            "model card, ONNX file and MONAI bundle.",
        ),
    ] = None,
    weights_license: Annotated[
        str,
        typer.Option(
            "--license", help="With --publish: license of the weights, e.g. CC-BY-4.0, or a name."
        ),
    ] = "",
) -> None:
    """Train the network 3DMM on a release. Run it again to resume an interrupted training.

    With --publish, a training that has ended is published and not repeated.
    """
    from flows.cli.printing import show_scores
    from flows.engine.prefect_server import prefect_server
    from flows.publish_network import check_publication, publish_network, read_publication
    from flows.train import TEST_SPLIT, make_training_job, train
    from storage.recipe import parse_override
    from storage.results.checkpoints import checkpoint_prefix, read_checkpoint
    from storage.results.scores import METHOD_SCORES, read_lines
    from storage.store import open_store
    from tasks.learning.train import training_id_of

    auxiliary = "none" if no_aux else auxiliary
    # Invalid requests are rejected before a server is started.
    chosen = parse_override([*(settings or ()), *([f"training.epochs={epochs}"] if epochs else ())])
    points = str(negatives) if negatives else None
    options = (store, release, variant, auxiliary, recipe, device, chosen)
    job = make_training_job(*options, points)
    training_id_of(job)
    publication = read_publication(publish, weights_license)
    if publication:
        check_publication(job, publication)
    with prefect_server():
        digest = train(*options, resume, points)
    opened = open_store(store)
    lines = read_lines(opened, release, TEST_SPLIT, METHOD_SCORES, digest)
    show_scores(opened, release, TEST_SPLIT, lines)
    checkpoint = f"{opened.url}/{checkpoint_prefix(digest)}"
    typer.echo(f"learned: {read_checkpoint(checkpoint).config.learned}")
    typer.echo(f"checkpoint: {checkpoint}")
    if publication:
        place = publish_network(job.release, digest, publication, device=device, say=typer.echo)
        typer.echo(f"published: {place}")


@network.command(
    kept="stored scores, networks and states of trainings are kept",
    epilog="Example: halosign evaluate --release 0.1.0 --store ./store --out ./experiments",
)
def evaluate(
    release: VersionOption,
    store: StoreOption,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="YAML file, `paper` or `cpu`; its sections `training`, `evaluation` and "
            "`diagnosis` are used.",
            show_default="paper",
        ),
    ] = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a copy of the report and its files.")
    ] = None,
    parts: Annotated[
        str, typer.Option(help="Parts to run, comma-separated.")
    ] = "readers,tables,diagnosis,figures",
    train: Annotated[
        bool,
        typer.Option(
            "--train", help="Train missing networks; without this they are listed as missing."
        ),
    ] = False,
    device: DeviceOption = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of local worker processes.", show_default="one per core"),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Only score this network (a digest) and print its scores."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only score on this split: train, validation or test.")
    ] = None,
) -> None:
    """Repeat the paper's experiments on a release: Tables 1-3 and the figures, as CSV and HTML.

    Stored scores and trained networks are reused: the same command resumes an interrupted run.
    """
    if checkpoint or split:
        _score(store, release, checkpoint, split or "test", device)
        return
    from flows.cli.printing import show_experiments
    from flows.engine.cluster import Cluster
    from flows.engine.prefect_server import prefect_server
    from flows.evaluate import EvaluationJob, check_parts, evaluate
    from storage.releases.release import open_release
    from storage.store import copy_folder, open_store
    from tasks.experiments.summary import check_experiments

    selected = tuple(name.strip() for name in parts.split(",") if name.strip())
    job = EvaluationJob(
        store,
        release,
        chosen_recipe(recipe, settings),
        device,
        train,
        selected,
        Cluster(workers=workers),
    )
    # Invalid requests are rejected before a server is started.
    check_parts(selected)
    check_experiments(open_release(store, release), job.recipe, device)
    with prefect_server():
        folder = evaluate(job)
    show_experiments(open_store(store), release, job.recipe.name)
    if out:
        copy_folder(folder, out)
    typer.echo(f"report: {out or folder}/report.html")


def _score(store: str, release: str, checkpoint: str | None, split: str, device: str) -> None:
    from flows.cli.printing import show_scores
    from flows.engine.prefect_server import prefect_server
    from flows.score import measure
    from storage.releases.reader import ReleaseReader
    from storage.releases.release import open_release
    from storage.store import open_store

    ReleaseReader(open_release(store, release)).nodules(split)
    with prefect_server():
        lines = measure(store, release, checkpoint, split, device)
    show_scores(open_store(store), release, split, lines)


@network.command(
    epilog="Example: halosign score --release 0.1.0 --store ./store --predictions ./mattes",
)
def score(
    release: VersionOption,
    store: StoreOption,
    predictions: Annotated[
        Path,
        typer.Option(help="Folder with one file for each nodule: NODULE.nii.gz, .nii or .npz."),
    ],
    split: Annotated[
        Literal["test", "validation", "train", "all"],
        typer.Option(help="Nodules of the release that are scored."),
    ] = "test",
    out: Annotated[Path, typer.Option(help="Folder for the page and its tables.")] = Path(
        "halosign-score"
    ),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of local worker processes.", show_default="one per core"),
    ] = None,
) -> None:
    """Score anybody's mattes against a release, beside its methods: HTML page and CSV.

    A prediction must be on the release's voxels; nothing is resampled. Nothing is written to the
    store. Exit code 1: some predictions were refused or are of unknown nodules; the others are
    scored.
    """
    from flows.cli.score_summary import show_predictions
    from flows.engine.cluster import Cluster
    from flows.score_predictions import ScoringJob, score_predictions

    job = ScoringJob(store, release, predictions, split, out, Cluster(workers=workers))
    page = score_predictions(job)
    show_predictions(page)
    typer.echo(f"report: {out}/report.html")
    if page.count("refused") or page.count("unknown nodule"):
        raise typer.Exit(1)


@network.command(
    kept="files that were written are whole",
    epilog="Example: halosign predict --checkpoint ./store/checkpoints/6cbb43e2 "
    "--image ct.nii.gz --point 61,240,310 --out ./prediction",
)
def predict(
    checkpoint: Annotated[
        str,
        typer.Option(
            help="Name of a published network in the store, folder or URL of a checkpoint, as "
            "`halosign train` prints it, or a file model.onnx.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    image: Annotated[
        Path | None,
        typer.Option(help="CT in HU: NIfTI, NRRD, MHA, or a folder with one DICOM series."),
    ] = None,
    point: Annotated[
        str | None,
        typer.Option(
            help="Voxel z,y,x in a nodule; a box around it is predicted, as large as most crops "
            "of the training."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="In place of --image and --point, a CSV table of points: columns image, z, y, x "
            "and name. Each has a folder of its own; predictions.csv lists them."
        ),
    ] = None,
    box: Annotated[str | None, typer.Option(help="First and last voxel, z,y,x,z,y,x.")] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="The whole CT, in many windows: the network learned nodules, not chests.",
        ),
    ] = False,
    keep_all: Annotated[
        bool,
        typer.Option("--all", help="With --point: keep all that is found in the box around it."),
    ] = False,
    flips: Annotated[
        bool, typer.Option("--flips", help="Average over eight flips, in eight times the time.")
    ] = False,
    device: DeviceOption = "auto",
    uneven: Annotated[
        Literal["refuse", "interpolate"],
        typer.Option(help="What becomes of slices at changing distances."),
    ] = "refuse",
    tilt: Annotated[
        Literal["refuse", "correct"],
        typer.Option(help="What becomes of slices that lean, as of a tilted gantry."),
    ] = "refuse",
    hu_check: Annotated[bool, typer.Option(help="Refuse a CT whose values cannot be HU.")] = True,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="HALOSIGN_STORE", help="Folder or URL of the store of a published network."
        ),
    ] = None,
) -> None:
    """Predict the alpha matte of a nodule in a CT, and the overlap and union of readers' masks.

    Exit code 1: the network finds no nodule at the point, and nothing is written then; or points of
    the table were refused, and the others are predicted.
    """
    from flows.cli.predicted_points import show_predicted_points
    from flows.engine.progress_bar import ProgressBar
    from matting.parameters import ResampleSettings
    from storage.results.networks import locate_network
    from tasks.learning.place import Place
    from tasks.learning.predict import PredictionSettings, predict_file, predict_table

    settings = PredictionSettings(
        hu_check=hu_check,
        slices=ResampleSettings(uneven=uneven, tilt=tilt),
        all_lesions=keep_all,
        flips=flips,
    )
    if table:
        Place.check_table(image=bool(image), point=point, box=box, whole=whole)
        with ProgressBar("predicting, points") as bar:
            points = predict_table(
                *(locate_network(checkpoint, store), table, out, device, settings),
                lambda done, total: bar.update(done, total=total),
            )
        show_predicted_points(points)
        typer.echo(out / "predictions.csv")
        if any(one.state == "refused" for one in points):
            raise typer.Exit(1)
        return
    place = Place.parse(point, box, whole)
    if image is None:
        raise InputError(
            "there is no CT to predict",
            got="no --image",
            expected="a CT, or a --table of points",
            remedy="Give --image CT with --point z,y,x.",
        )
    with ProgressBar("predicting, windows") as bar:
        predicted = predict_file(
            locate_network(checkpoint, store),
            image,
            place,
            out,
            device,
            settings,
            lambda done, total: bar.update(done, total=total),
        )
    if not predicted.files:
        typer.echo(
            f"no nodule at {point}: alpha is {predicted.highest_alpha:.2f} there. Nothing was "
            "written; use --all to keep what the network finds around it.",
            err=True,
        )
        raise typer.Exit(1)
    for file in predicted.files:
        typer.echo(file)

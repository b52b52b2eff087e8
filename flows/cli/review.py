"""The command line of the human half: `halosign review`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import StoreOption

review = typer.Typer(no_args_is_help=True, help="Decide which matte of each nodule is released.")
study = typer.Typer(
    no_args_is_help=True,
    help="Let clinicians judge the mattes against the readers' masks, blinded.",
)
review.add_typer(study, name="study")

RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="Whose `review` section joins verdicts; the paper's when left out."
    ),
]
StudyArgument = Annotated[str, typer.Argument(help="Name of the study.")]


@review.command("serve", epilog="Example: halosign review serve --store ./store")
def serve(
    store: StoreOption,
    recipe: RecipeOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --tokens.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8790,
    tokens: Annotated[
        Path | None, typer.Option(help="File of reviewers and their tokens' SHA-256.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS certificate (PEM); without it, put TLS in front.")
    ] = (None),
    key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Hide names and shuffle candidates for everybody.")
    ] = False,
) -> None:
    """Serve the review page: reviewers look at each nodule's mattes and choose one, or none."""
    from qc.review.server import ServerAddress
    from qc.review.server import serve as serve_page
    from storage.recipe import load_recipe
    from storage.store import open_store

    place = ServerAddress(host, port, tokens, certificate, key)
    serve_page(open_store(store), load_recipe(recipe).review, place, blind=blind, on_ready=typer.echo)


@review.command("token", epilog="Example: halosign review token ann --tokens ./reviewers.txt")
def token(
    name: Annotated[str, typer.Argument(help="The reviewer's name.")],
    tokens: Annotated[
        Path, typer.Option(help="File to add the token's SHA-256 to; made where there is none.")
    ],
) -> None:
    """Let one more reviewer in: prints a new token, which is shown only this once."""
    from qc.review.auth import add_token

    typer.echo(add_token(tokens, name))


@review.command("auto", epilog="Example: halosign review auto --store ./store")
def auto(store: StoreOption) -> None:
    """Pick the best-ranked matte of every nodule that no person decided; recorded as automatic."""
    from storage.store import open_store
    from tasks.auto_select import pick_automatically

    added = pick_automatically(open_store(store))
    typer.echo(f"{len(added)} nodules decided automatically")


@review.command(
    "export", epilog="Example: halosign review export --store ./store --to ./decisions.csv"
)
def export(
    store: StoreOption,
    to: Annotated[Path, typer.Option("--to", help="File to write: .csv or .json.")],
    study_name: Annotated[
        str, typer.Option("--study", help="The verdicts of a study instead.")
    ] = "",
) -> None:
    """Write every verdict, those that were taken back included."""
    from storage.reviews.studies import read_study
    from storage.reviews.verdict_files import all_verdicts, write_verdicts
    from storage.store import open_store

    opened = open_store(store)
    decisions = all_verdicts(opened, read_study(opened, study_name).name if study_name else "")
    write_verdicts(to, decisions)
    typer.echo(f"{to}: {len(decisions)} verdicts")


@review.command("import", epilog="Example: halosign review import ./decisions.csv --store ./store")
def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV or JSON as `halosign review export` writes it.")
    ],
    store: StoreOption,
) -> None:
    """Take in verdicts that were given elsewhere; those that are here already are not added again."""
    from storage.reviews.verdict_files import import_verdicts
    from storage.store import open_store

    taken = import_verdicts(open_store(store), file)
    typer.echo(f"{taken.added} verdicts added, {taken.known} known already")
    if taken.stale:
        typer.echo(
            f"on cases that changed since, so they count for nothing: {', '.join(taken.stale)}"
        )


@review.command(
    "disputes", epilog="Example: halosign review disputes --store ./store --recipe ./recipe.yaml"
)
def disputes(store: StoreOption, recipe: RecipeOption = None) -> None:
    """List the nodules on which reviewers differ, and how far reviewers agree."""
    from flows.cli.printing import show_agreement
    from qc.review.service import ReviewService
    from storage.recipe import load_recipe
    from storage.store import open_store

    show_agreement(
        ReviewService(open_store(store), load_recipe(recipe).review, blind=False).agreement(
            "nobody"
        )
    )


@study.command(
    "create",
    epilog="Example: halosign review study create first --store ./store --nodules 100 --raters 2",
)
def study_create(
    name: StudyArgument,
    store: StoreOption,
    nodules: Annotated[int, typer.Option(min=1, help="How many nodules are drawn.")] = 100,
    raters: Annotated[int, typer.Option(min=1, help="How many people take part.")] = 2,
    seed: Annotated[
        int, typer.Option(help="Decides the draw and the order of what is shown.")
    ] = 20221011,
    release: Annotated[
        str, typer.Option(help="Take the mattes of this version; else those that stand now.")
    ] = "",
    recipe: RecipeOption = None,
    by: Annotated[str, typer.Option(help="Who makes the study.", envvar="USER")] = "unknown",
) -> None:
    """Draw nodules at random and fix what raters will see."""
    from storage.recipe import load_recipe
    from storage.reviews.studies import create_study, plan_study
    from storage.store import open_store

    opened = open_store(store)
    plan = plan_study(
        opened,
        name,
        nodules=nodules,
        raters=raters,
        seed=seed,
        recipe=load_recipe(recipe),
        release=release,
        by=by,
    )
    create_study(opened, plan)
    typer.echo(f"study {name}: {nodules} nodules, {raters} raters")
    typer.echo(f"next: halosign review serve --store {store}, then open /study/{name}")


@study.command(
    "report",
    epilog="Example: halosign review study report first --store ./store --to ./study-first",
)
def study_report(
    name: StudyArgument,
    store: StoreOption,
    to: Annotated[
        Path, typer.Option("--to", help="Folder for report.md, figure.png and answers.csv.")
    ],
) -> None:
    """Report shares per rater with intervals and their agreement; draw the paper's Figure 3."""
    from qc.review.study_report import write_study_report
    from storage.store import open_store

    typer.echo(write_study_report(open_store(store), name, to))

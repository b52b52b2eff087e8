"""The commands of the review: `halosign review`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows.cli.commands import Commands, Group
from flows.cli.options import RecipeOption, SetOption, StoreOption, chosen_recipe
from storage.errors import CorruptionError

review = Commands(help="Choose the matte of each nodule that is released.")
study = Commands(
    help="Run a blinded study in which raters compare mattes with readers' masks.",
)
review.add_typer(study, name="study")


class TokenGroup(Group):
    """`review token NAME` is short for `review token create NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Take what begins with no command for the arguments of `create`."""
        is_command = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if is_command else ["create", *args])


token = Commands(
    cls=TokenGroup,
    help="Create and revoke the tokens by which reviewers sign in.",
)
review.add_typer(token, name="token")

StudyArgument = Annotated[str, typer.Argument(help="Name of the study.")]


@review.command(
    "serve",
    kept="every verdict that was acknowledged is stored",
    epilog="Example: halosign review serve --store ./store",
)
def serve(
    store: StoreOption,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; any other than a loopback address requires --tokens."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8790,
    tokens: Annotated[
        Path | None, typer.Option(help="File with the reviewers and the SHA-256 of their tokens.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS certificate (PEM); without it, use a TLS proxy.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
    blind: Annotated[
        bool,
        typer.Option("--blind", help="Hide the names of the methods and shuffle the candidates."),
    ] = False,
) -> None:
    """Serve the review page, on which reviewers choose the matte of each nodule or discard it."""
    from qc.review.server import ServerAddress
    from qc.review.server import serve as serve_page
    from storage.store import open_store

    address = ServerAddress(host, port, tokens, certificate, key)
    serve_page(
        open_store(store),
        chosen_recipe(recipe, settings).review,
        address,
        blind=blind,
        on_ready=typer.echo,
    )


@token.command(
    "create",
    epilog="Example: halosign review token create ann --tokens ./reviewers.txt",
)
def token_create(
    name: Annotated[str, typer.Argument(help="Name of the reviewer.")],
    tokens: Annotated[
        Path, typer.Option(help="File to add the SHA-256 of the token to; created if missing.")
    ],
    role: Annotated[
        Literal["curator", "reviewer", "rater"],
        typer.Option(
            help="What is shown: everything, the queue and the studies, or the studies only."
        ),
    ] = "reviewer",
) -> None:
    """Create a token for a reviewer, which is printed once; `create` may be left out."""
    from qc.review.reviewers import Role, add_reviewer

    typer.echo(add_reviewer(tokens, name, Role(role)))


@token.command(
    "revoke", epilog="Example: halosign review token revoke ann --tokens ./reviewers.txt"
)
def token_revoke(
    name: Annotated[str, typer.Argument(help="Name of the reviewer.")],
    tokens: Annotated[Path, typer.Option(help="File that holds the SHA-256 of the tokens.")],
) -> None:
    """Remove a reviewer's token; a running page ends the reviewer's sessions at once."""
    from qc.review.reviewers import revoke_reviewer

    revoke_reviewer(tokens, name)
    typer.echo(f"{name} has no token any more and is signed out. Verdicts that were given stay.")


@review.command(
    "auto",
    kept="verdicts that were added are stored",
    epilog="Example: halosign review auto --store ./store",
)
def auto(store: StoreOption, recipe: RecipeOption = None, settings: SetOption = None) -> None:
    """Choose a matte for every nodule without a reviewer's verdict.

    It is the best-ranked of the four that answer the question of the recipe, `review.target`.
    Exit code 1 where none of the four converged for some nodule, or its verdicts are damaged: a
    reviewer has to decide it.
    """
    from storage.store import open_store
    from tasks.auto_select import pick_automatically

    target = chosen_recipe(recipe, settings).review.target
    picks = pick_automatically(open_store(store), target)
    typer.echo(f"{len(picks.added)} verdicts added automatically; question: {target}")
    if picks.unpicked:
        typer.echo(
            f"no form that estimates {target} converged: {', '.join(picks.unpicked)}. "
            "Choose a matte or discard them with `halosign review serve`."
        )
    _exit_if_damaged(picks.damaged)
    if picks.unpicked:
        raise typer.Exit(1)


def _exit_if_damaged(damaged: Sequence[CorruptionError]) -> None:
    for error in damaged:
        typer.echo(f"left out: {error}", err=True)
    if damaged:
        raise typer.Exit(1)


@review.command(
    "export", epilog="Example: halosign review export --store ./store --to ./verdicts.csv"
)
def export(
    store: StoreOption,
    to: Annotated[Path, typer.Option("--to", help="File to write: .csv or .json.")],
    study_name: Annotated[
        str, typer.Option("--study", help="Export the verdicts of this study instead.")
    ] = "",
) -> None:
    """Export all verdicts to a file, including those that were undone.

    Exit code 1 where a verdict is damaged; it is named, and the others are exported.
    """
    from storage.reviews.studies import read_study
    from storage.reviews.verdict_files import export_verdicts, find_all_verdicts
    from storage.store import open_store

    opened = open_store(store)
    found = find_all_verdicts(opened, read_study(opened, study_name).name if study_name else "")
    export_verdicts(to, found.verdicts)
    typer.echo(f"{to}: {len(found.verdicts)} verdicts")
    _exit_if_damaged(found.damaged)


@review.command(
    "import",
    kept="verdicts that were added are stored",
    epilog="Example: halosign review import ./verdicts.csv --store ./store",
)
def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV or JSON file written by `halosign review export`.")
    ],
    store: StoreOption,
) -> None:
    """Import verdicts from a file; verdicts that the store has already are not added again."""
    from storage.reviews.verdict_files import import_verdicts
    from storage.store import open_store

    taken = import_verdicts(open_store(store), file)
    typer.echo(f"{taken.added} verdicts added, {taken.known} already present")
    if taken.stale:
        typer.echo(f"ignored, because their cases have changed since: {', '.join(taken.stale)}")


@review.command(
    "disputes", epilog="Example: halosign review disputes --store ./store --recipe ./recipe.yaml"
)
def disputes(store: StoreOption, recipe: RecipeOption = None, settings: SetOption = None) -> None:
    """List the nodules on which reviewers disagree, with the agreement of the reviewers."""
    from flows.cli.printing import show_agreement
    from qc.review.service import ReviewService
    from storage.store import open_store

    show_agreement(
        ReviewService(
            open_store(store), chosen_recipe(recipe, settings).review, blind=False
        ).agreement("nobody")
    )


@study.command(
    "create",
    epilog="Example: halosign review study create first --store ./store --nodules 100 --raters 2",
)
def study_create(
    name: StudyArgument,
    store: StoreOption,
    nodules: Annotated[int, typer.Option(min=1, help="Number of nodules to sample.")] = 100,
    raters: Annotated[int, typer.Option(min=1, help="Number of raters.")] = 2,
    seed: Annotated[
        int, typer.Option(help="Seed of the sample and of the order of presentation.")
    ] = 20221011,
    release: Annotated[
        str,
        typer.Option(help="Use the mattes of this version.", show_default="the current verdicts"),
    ] = "",
    recipe: RecipeOption = None,
    settings: SetOption = None,
    by: Annotated[
        str, typer.Option(help="Name of who creates the study.", envvar="USER")
    ] = "unknown",
) -> None:
    """Sample nodules at random and fix what each rater will see."""
    from flows.engine.console import count_of
    from storage.reviews.studies import create_study, plan_study
    from storage.store import open_store

    opened = open_store(store)
    plan = plan_study(
        opened,
        name,
        nodules=nodules,
        raters=raters,
        seed=seed,
        recipe=chosen_recipe(recipe, settings),
        release=release,
        by=by,
    )
    create_study(opened, plan)
    typer.echo(f"study {name}: {count_of(nodules, 'nodule')}, {count_of(raters, 'rater')}")
    typer.echo(f"next: halosign review serve --store {store}, then open /study/{name}")


@study.command(
    "report",
    epilog="Example: halosign review study report first --store ./store --to ./study-first",
)
def study_report(
    name: StudyArgument,
    store: StoreOption,
    to: Annotated[
        Path,
        typer.Option("--to", help="Folder for report.md, figure.png, shares.csv and answers.csv."),
    ],
) -> None:
    """Write the report of a study: shares per rater with intervals, agreement, and Figure 3."""
    from qc.studies.report import write_study_report
    from storage.store import open_store

    typer.echo(write_study_report(open_store(store), name, to))

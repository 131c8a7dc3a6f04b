"""Command-line options from the classes that declare them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any

import typer

from rerank_plugins._internal.loading_options import LoadingOptions
from rerank_plugins._internal.options import Option, options_of
from rerank_plugins._internal.secret import Secret

LOADING = options_of(LoadingOptions)
"""The options of `load_reranker`."""

PANEL = "Loading the model"
"""Their heading in ``--help``."""

COMPUTING = {
    name: option
    for name, option in LOADING.items()
    if name not in ("model", "calibration", "score_cache", "score_cache_folder")
}
"""Those of them that do not say which model it is, or what becomes of its scores."""

# The options of a first stage and of a sample, for the commands `eval` and `calibrate`.
EmbedderOption = Annotated[
    str, typer.Option(help="First-stage embedder: embed-static-en or a sentence-transformers model.")
]
RunFileOption = Annotated[str | None, typer.Option(help="A TREC run file of your retriever, instead of --embedder.")]
FetchKOption = Annotated[int, typer.Option(help="Candidates a query.")]
SplitOption = Annotated[str | None, typer.Option(help="qrels/SPLIT.tsv; the first there is of test, dev, train.")]
MaxQueriesOption = Annotated[int | None, typer.Option(help="The size of a random sample; by default all.")]


def takes_options(
    options: Mapping[str, Option], *, argument: str, panel: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options, which it gets as a dictionary in its parameter ``argument``.

    Args:
        options: What to add, by name: ``max_length`` becomes ``--max-length``.
        argument: The parameter of the command.
        panel: The heading of these options in ``--help``; None puts them among the command's own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        added = [_parameter(option, panel) for option in options.values()]
        parameters = [*(one for name, one in own.items() if name != argument), *added]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            values = {name: given.pop(name) for name in options}
            command(**given, **{argument: values})

        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        return call

    return decorate


def _parameter(option: Option, panel: str | None) -> inspect.Parameter:
    kind: Any = option.type
    if option.is_path:
        # typer knows no unions; the name of a model may be no path.
        optional = NoneType in option.kinds
        kind = str | None if optional else str  # not Path: of "" it would make the working folder
    elif Secret in option.kinds:
        kind = str | None
    flag = f"--{option.name.replace('_', '-')}"
    text = re.sub("``|`", "", option.help)
    # Named, so that booleans get no --no-... beside them.
    declared = typer.Option(flag, help=text, rich_help_panel=panel)
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=Annotated[kind, declared]
    )

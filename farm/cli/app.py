"""The typer application, made from the table of options: help, completion, and clear words for a wrong command line."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from farm import __version__
from farm.cli import light
from farm.cli.light import merge
from farm.cli.main import cannot_write, run_command
from farm.cli.options import COMMON, FLAG, GROUPS, Argument, Command, Option, Values, commands, complete, find
from farm.errors import EXIT_OK, FarmError, UsageError

_HELP = "A Gearman job server, and a toolkit that makes any Unix command a worker."


def run(argv: list[str]) -> int:
    """Parse with typer and run the command. Raises UsageError for a wrong command line."""
    command = typer.main.get_command(build())
    _plain_usage(command)
    try:
        status = command.main(args=argv or ["--help"], prog_name="farm", standalone_mode=False)
    except typer.TyperException as error:
        raise _usage_error(error) from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except SystemExit as end:
        if isinstance(end.__context__, OSError):  # typer's way to go when the reader has left
            raise BrokenPipeError from end
        raise
    except OSError as error:
        raise cannot_write(error) from error
    return status if isinstance(status, int) else EXIT_OK


def build() -> typer.Typer:
    """The application: every command of the table."""
    app = typer.Typer(
        name="farm", help=_HELP, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.callback()(_with_signature(_common, COMMON, (), version=True))
    groups = {name: typer.Typer(name=name, help=help, rich_markup_mode=None) for name, help in GROUPS.items()}
    for command in commands():
        epilog = "Examples:\n\n" + "\n\n".join(command.examples.splitlines())
        function = _with_signature(_runner(command), command.options, command.arguments)
        group, _, name = command.name.rpartition(" ")
        (groups[group] if group else app).command(name, cls=_reader(command), help=command.help, epilog=epilog)(
            function
        )
    for group_app in groups.values():
        app.add_typer(group_app)
    return app


def _common(ctx: typer.Context, **given: Any) -> None:
    """What comes before the command also holds for it."""
    ctx.obj = {name: value for name, value in given.items() if name != "version"}


def _runner(command: Command) -> Callable[..., int]:
    def runner(ctx: typer.Context, **given: Any) -> int:
        before: Values = ctx.obj or {}
        return run_command(command.name, complete(command, merge(before, given), dict(os.environ)))

    return runner


def _reader(command: Command) -> type[TyperCommand]:
    """Typer takes options anywhere, also those of a command that `farm work` is given. The light parser does not."""

    class Reader(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            with contextlib.suppress(light.Declined):
                light.parse_rest(command, args)
            try:
                return super().parse_args(ctx, args)
            except typer.TyperException as error:
                if getattr(error, "ctx", None) is None:  # its parser does not say whose option lacks a value
                    error.ctx = ctx  # type: ignore[attr-defined]
                raise

    return Reader


def _plain_usage(group: Any) -> None:
    """`FUNCTION`, as in any man page; typer writes `{FUNCTION}`, which elsewhere means a choice."""
    for command in group.commands.values():
        if hasattr(command, "commands"):
            _plain_usage(command)
            continue
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                name = parameter.metavar
                words = name if parameter.required else f"[{name}]"
                parameter.make_metavar = lambda ctx, usage=False, name=name, words=words: words if usage else name


def _with_signature(
    function: Callable[..., Any], options: tuple[Option, ...], arguments: tuple[Argument, ...], version: bool = False
) -> Callable[..., Any]:
    """Give a function that takes keywords the signature that typer reads."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
    parameters += [
        inspect.Parameter(
            argument.name,
            keyword,
            annotation=_argument(argument),
            default=[] if argument.rest else None if argument.optional else inspect.Parameter.empty,
        )
        for argument in arguments
    ]
    parameters += [
        inspect.Parameter(option.name, keyword, annotation=_option(option), default=_absent(option))
        for option in options
    ]
    if version:
        shown = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)]
        parameters.append(inspect.Parameter("version", keyword, annotation=shown, default=False))
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _absent(option: Option) -> Any:
    if option.kind == FLAG:
        return False
    return [] if option.repeat else None


def _option(option: Option) -> Any:
    notes = [f"default: {option.default}"] if option.default else []
    notes += [f"env: {option.env}"] if option.env else []
    help = option.help + (f" [{'; '.join(notes)}]" if notes else "")
    kind: Any = bool if option.kind == FLAG else list[str] if option.repeat else str | None
    info = typer.Option(
        *option.flags,
        help=help,
        metavar=option.metavar or None,
        show_default=False,
        autocompletion=_choices(option) if option.choices else None,
    )
    return Annotated[kind, info]


def _choices(option: Option) -> Callable[[str], list[str]]:
    return lambda incomplete: [choice for choice in option.choices if choice.startswith(incomplete)]


def _argument(argument: Argument) -> Any:
    kind: Any = list[str] if argument.rest else str | None if argument.optional else str
    complete_name = _function_names if argument.name == "function" else None
    help = argument.help + (f" [env: {argument.env}]" if argument.env else "")
    info = typer.Argument(help=help, show_default=False, metavar=argument.metavar, autocompletion=complete_name)
    return Annotated[kind, info]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"farm {__version__}")
        raise typer.Exit(EXIT_OK)


def _function_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """For Tab: the functions that the server knows which the command would go to."""
    from farm.client.status import fetch_all
    from farm.protocol.address import parse_addresses

    command = find(ctx.info_name or "")
    assert command
    typed = [
        {option.name: _typed(part.params.get(option.name)) for option in COMMON} for part in (ctx.parent, ctx) if part
    ]
    try:
        values = complete(command, merge(typed[0], typed[-1]), dict(os.environ))
        named = values["server"]
        addresses = parse_addresses([str(text) for text in named] if isinstance(named, list) else [])
        servers = fetch_all(addresses, bool(values["insecure"]))
    except FarmError:
        return []
    names = {row.name for server in servers for row in server.functions}
    return sorted(name for name in names if name.startswith(incomplete))


def _typed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _usage_error(error: typer.TyperException) -> UsageError:
    """Typer's words as one line, and a hint."""
    context = getattr(error, "ctx", None)
    name = ""
    while context and context.parent:
        name, context = f"{context.info_name} {name}", context.parent
    hint = f"farm {name}--help"
    words = error.format_message().strip().replace("\n", " ")
    words, _, guess = words.partition(" Did you mean ")
    if guess:
        hint = f"did you mean {guess} See {hint}"
    elif name == "work " and "No such option" in words:
        hint = "put -- before the command: farm work FUNCTION -- COMMAND ..."
    words = words.strip().rstrip(".")
    return UsageError(words[:1].lower() + words[1:], hint)

"""What the pages of coordinator and hospital share: one file each that needs no network and no script."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def templates(package: str, *, autoescape: bool = True) -> Environment:
    """The templates of a package, and those that all pages share; a name that a template misspells is an error."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("roiae.page")]),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

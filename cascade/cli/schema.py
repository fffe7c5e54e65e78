"""``cascade schema``."""

from __future__ import annotations

from cascade.cli.shell import DONE, cascade, debug_option, print_json


@cascade.command("schema", short_help="Print a JSON Schema of the taxonomy file, for editors.")
@debug_option
def schema() -> int:
    """Print a JSON Schema (draft 2020-12) of the taxonomy file, by which editors complete and check it.

    It sees each key and value alone: that names agree with each other, only check can tell.
    """
    from cascade.backends import CHOOSABLE, KINDS
    from cascade.taxonomy import schema as schemas

    print_json(schemas.schema({kind: KINDS[kind].options for kind in CHOOSABLE}))
    return DONE

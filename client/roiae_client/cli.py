"""`roiae-client`: hospital IT's command."""

import sys

from roiae.console.cli import new_app, run_app
from roiae_client.commands import data as data_commands
from roiae_client.commands import doctor
from roiae_client.commands import enrol as enrol_commands
from roiae_client.commands import service as service_commands
from roiae_client.commands.ledger import ledger
from roiae_client.commands.report import report

app = new_app()
doctor.register(app)
enrol_commands.register(app)
service_commands.register(app)
app.command()(data_commands.check)
app.command("import")(data_commands.import_frames)
app.command()(ledger)
app.command()(report)


@app.callback()
def root() -> None:
    """Take part in a federation with a hospital's own images, none of which leaves it."""


def main() -> None:
    sys.exit(run_app(app, "roiae-client"))

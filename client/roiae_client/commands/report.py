"""`roiae-client report`: a model that the coordinator handed on, on this hospital's own frames. Nothing is sent."""

from pathlib import Path
from typing import Annotated

import typer

from roiae.console.terminal import say
from roiae.errors import SetupError

PAGE = "report.html"


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's folder, made by `init`.")],
    run: Annotated[
        Path, typer.Option(metavar="MODEL", help="The folder that the coordinator's `export` wrote, or its weights.")
    ],
    html: Annotated[Path | None, typer.Option(help="Where the page goes; DIR/report.html without it.")] = None,
) -> None:
    """Look at a finished model on this hospital's own frames, and write report.html, which stays in the hospital."""
    import torch
    from rich.console import Console

    from roiae.data.site_data import SiteData, default_cache_dir
    from roiae.files import write_private
    from roiae.method.exported import read_exported
    from roiae.method.hardware import find_device, prepare_process
    from roiae_client.commands.progress import progress
    from roiae_client.folder.hospital_folder import HospitalFolder
    from roiae_client.report.page import render
    from roiae_client.report.readings import read_frames, scored_sets

    hospital = HospitalFolder.open(folder)
    config, page = hospital.config, html or folder / PAGE
    if page.exists() or not page.parent.is_dir():
        problem = "exists already" if page.exists() else "its folder does not exist"
        raise SetupError(f"{page}: {problem}. Give --html the path of a new file in a folder of yours.")
    exported = read_exported(run)
    prepare_process(config.threads or torch.get_num_threads())
    exported.model.to(find_device(config.device))
    with progress(Console(stderr=True)) as on_step:
        data = SiteData.open(
            config.data,
            image_size=exported.image_size,
            cache_dir=default_cache_dir(),
            validation_share=config.validation_share,
            max_bad_share=config.max_bad_share,
            on_frame=lambda done, total: on_step("reading frames", done, total),
        )
        readings = read_frames(
            exported.model,
            scored_sets(data, config.role),
            lambda done, total: on_step("reconstructing", done, total),
        )
    content = render(page, config, data.fingerprint, exported, readings)
    try:
        write_private(page, content.encode())
    except OSError as error:
        raise SetupError(f"{page}: cannot be written ({error.strerror}). Give --html another place.") from error
    say(f"{page}: {len(readings)} frames and what the model makes of them. It shows patients and stays here.")

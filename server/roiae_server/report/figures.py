"""What the pictures share."""

import io

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's content, drawn without a screen."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()

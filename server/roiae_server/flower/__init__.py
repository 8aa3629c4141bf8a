"""The coordinator's one door to Flower: strategies, grids and the Ray engine. Nothing else here imports flwr."""

import logging
import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
logging.getLogger("flwr").setLevel(logging.ERROR)  # its INFO lines repeat what the federation reports itself

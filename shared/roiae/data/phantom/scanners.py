"""The scanners that phantom hospitals own. None is a real product; together they differ as real ones do."""

import math
from dataclasses import dataclass
from typing import Literal

Overlay = Literal["bar left", "bar right", "ruler", "text left", "text right", "inset"]


@dataclass(frozen=True)
class Scanner:
    """What differs from one scanner to the next. Lengths in mm of the patient."""

    name: str
    field_mm: float  # the frame shows field_mm × field_mm
    apex_mm: float  # the beams fan out from a point this far above the frame
    half_angle_deg: float  # of the sector; a wide one fills the frame
    top_mm: float  # in the middle of the frame, the sector begins this far below the upper edge
    axial_mm: float  # standard deviation of the point-spread function along the beam
    lateral_mm: float  # and across it, in mid-frame; it grows with the distance from the apex
    looks: int  # independent views whose magnitudes are averaged (compounding); 1 is raw speckle
    dynamic_range_db: float
    gain_db: float
    fade_db_per_cm: float  # attenuation that the scanner's own compensation leaves over
    gamma: float  # of the grey map; above 1 darkens the middle greys
    backdrop: int  # grey level outside the sector, 0 to 255
    overlay: tuple[Overlay, ...]  # burnt into the frame

    @property
    def half_angle(self) -> float:
        """Half the sector's opening in rad, no wider than the frame can show."""
        return min(math.radians(self.half_angle_deg), math.atan2(self.field_mm / 2, self.apex_mm))


SCANNERS: tuple[Scanner, ...] = (
    Scanner(
        name="alder",
        field_mm=46.0,
        apex_mm=60.0,
        half_angle_deg=16.5,
        top_mm=-4.0,
        axial_mm=0.20,
        lateral_mm=0.55,
        looks=2,
        dynamic_range_db=52.0,
        gain_db=0.0,
        fade_db_per_cm=0.5,
        gamma=1.15,
        backdrop=10,
        overlay=("bar left", "text right"),
    ),
    Scanner(
        name="birch",
        field_mm=47.0,
        apex_mm=45.0,
        half_angle_deg=18.0,
        top_mm=-3.0,
        axial_mm=0.15,
        lateral_mm=0.30,
        looks=2,
        dynamic_range_db=46.0,
        gain_db=4.0,
        fade_db_per_cm=0.0,
        gamma=1.0,
        backdrop=22,
        overlay=("text right", "inset"),
    ),
    Scanner(
        name="cedar",
        field_mm=43.0,
        apex_mm=75.0,
        half_angle_deg=40.0,
        top_mm=-6.0,
        axial_mm=0.24,
        lateral_mm=0.42,
        looks=2,
        dynamic_range_db=58.0,
        gain_db=-3.0,
        fade_db_per_cm=0.4,
        gamma=1.4,
        backdrop=0,
        overlay=("text left", "ruler", "bar right"),
    ),
    Scanner(
        name="dogwood",
        field_mm=50.0,
        apex_mm=28.0,
        half_angle_deg=30.0,
        top_mm=3.0,
        axial_mm=0.16,
        lateral_mm=0.50,
        looks=1,
        dynamic_range_db=40.0,
        gain_db=5.0,
        fade_db_per_cm=1.2,
        gamma=0.9,
        backdrop=0,
        overlay=("ruler",),
    ),
    Scanner(
        name="elm",
        field_mm=44.0,
        apex_mm=50.0,
        half_angle_deg=24.0,
        top_mm=-5.0,
        axial_mm=0.30,
        lateral_mm=0.75,
        looks=2,
        dynamic_range_db=70.0,
        gain_db=6.0,
        fade_db_per_cm=-0.6,
        gamma=1.25,
        backdrop=34,
        overlay=("bar right", "text left"),
    ),
)
"""The first three are the hospitals of a default simulation; a larger one uses them in turn, with other seeds."""

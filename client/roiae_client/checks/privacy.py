"""What could name a patient. It is pointed at and never changed: de-identification is a person's decision."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag

from roiae.data.dicom import quiet_pydicom
from roiae.data.manifest import ManifestRow
from roiae_client.checks.facts import Facts
from roiae_client.checks.findings import CheckFinding, at_lines

# PS3.15, table E.1-1, basic profile: the attributes that name or date a person, and that ultrasound objects carry.
# The profile replaces the first kind by a dummy, so they may stay where the header says that identity was removed.
_REPLACED = frozenset(
    [
        "AccessionNumber",
        "ContentDate",
        "PatientBirthDate",
        "PatientID",
        "PatientName",
        "PatientSex",
        "ReferringPhysicianName",
        "StudyDate",
        "StudyID",
        "StudyTime",
        "ContentTime",
    ]
)
_REMOVED = frozenset(
    [
        "AcquisitionDate",
        "AcquisitionDateTime",
        "AcquisitionTime",
        "AdditionalPatientHistory",
        "AdmissionID",
        "AdmittingDiagnosesDescription",
        "Allergies",
        "ConsultingPhysicianName",
        "CountryOfResidence",
        "CurrentPatientLocation",
        "DeviceSerialNumber",
        "EthnicGroup",
        "IdentifyingComments",
        "InstitutionAddress",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "IssuerOfPatientID",
        "LastMenstrualDate",
        "MedicalAlerts",
        "MedicalRecordLocator",
        "MilitaryRank",
        "NameOfPhysiciansReadingStudy",
        "Occupation",
        "OperatorsName",
        "OtherPatientIDs",
        "OtherPatientIDsSequence",
        "OtherPatientNames",
        "PatientAddress",
        "PatientAge",
        "PatientBirthName",
        "PatientBirthTime",
        "PatientComments",
        "PatientInstitutionResidence",
        "PatientMotherBirthName",
        "PatientReligiousPreference",
        "PatientSize",
        "PatientState",
        "PatientTelecomInformation",
        "PatientTelephoneNumbers",
        "PatientWeight",
        "PerformedProcedureStepDescription",
        "PerformedProcedureStepID",
        "PerformedStationName",
        "PerformingPhysicianName",
        "PersonAddress",
        "PersonName",
        "PersonTelephoneNumbers",
        "PhysiciansOfRecord",
        "PregnancyStatus",
        "ProtocolName",
        "ReasonForStudy",
        "RegionOfResidence",
        "RequestingPhysician",
        "RequestingService",
        "ResponsiblePerson",
        "SeriesDate",
        "SeriesDescription",
        "SeriesTime",
        "StationName",
        "StudyComments",
        "StudyDescription",
    ]
)


@dataclass(frozen=True)
class Identity:
    """What a DICOM header says of its patient."""

    keywords: tuple[str, ...]  # of the attributes with a value that the basic profile removes or replaces
    burned_in: bool
    removed: bool


def identity_of(header: Dataset) -> Identity:
    """Looks at the whole header, nested items included. What cannot be understood may name someone, so it counts."""
    try:
        with quiet_pydicom():
            return _identity_of(header)
    except Exception:  # pydicom converts a value when it is asked for, and raises anything at broken ones
        return Identity(("a value that cannot be read",), burned_in=False, removed=False)


def headers(rows: Sequence[ManifestRow], of_file: Mapping[Path, Identity]) -> Iterator[CheckFinding]:
    """What the headers of the DICOM files among the rows' images say of identity.

    Args:
        of_file: the identity in each DICOM file.
    """
    dicom = [(row, of_file[row.image]) for row in rows if row.image in of_file]
    named = [(row, identity.keywords) for row, identity in dicom if identity.keywords]
    notes = [f"{row.image.name}: {', '.join(keywords)}" for row, keywords in named]
    yield at_lines("header-identity", (row.line for row, _ in named), notes)
    yield at_lines("burned-in", (row.line for row, identity in dicom if identity.burned_in))
    yield at_lines("identity-not-removed", (row.line for row, identity in dicom if not identity.removed))


def text(rows: Sequence[ManifestRow], facts: Facts) -> CheckFinding:
    """Frames with bands that look like text; `rows` are those of `facts`."""
    return at_lines("text", (row.line for row, bands in zip(rows, facts.text_bands, strict=True) if bands))


def _identity_of(header: Dataset) -> Identity:
    removed = header.get("PatientIdentityRemoved") == "YES"
    names = _REMOVED if removed else _REMOVED | _REPLACED
    keywords = sorted({keyword for keyword in _filled(header) if keyword in names})
    return Identity(tuple(keywords), header.get("BurnedInAnnotation") == "YES", removed)


def _filled(header: Dataset) -> Iterator[str]:
    """Keywords of the elements that hold something, those of nested items included."""
    for tag in header.keys():  # noqa: SIM118 - iterating a data set gives its elements, and reads every one of them
        keyword = keyword_for_tag(tag)
        element = header.get_item(tag)
        if element is None or not keyword:
            continue
        if element.VR == "SQ":
            for item in header[tag].value:
                yield from _filled(item)
        if element.value not in (None, b"", ""):
            yield keyword

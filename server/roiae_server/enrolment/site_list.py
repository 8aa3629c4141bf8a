"""Who takes part in a federation: each change to the list of sites either keeps its rules or is refused.

A name and each key belong to one site, and at most one site is held out.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from roiae.config import Role
from roiae.errors import SetupError
from roiae.identity.keys import SiteKeys, fingerprint, parse_public, public_line
from roiae.identity.kit import Name


class Enrolled(BaseModel):
    """A site that may take part."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    role: Role
    reply_key: str  # OpenSSH line with the site's name behind it: signs replies
    node_key: str  # likewise: of Flower's node authentication
    added: date  # UTC; of its present keys

    @property
    def keys(self) -> SiteKeys:
        return SiteKeys(*(parse_public(line, "sites.json") for line in (self.reply_key, self.node_key)))


Sites = dict[str, Enrolled]


def with_site(sites: Mapping[str, Enrolled], name: str, role: Role, keys: SiteKeys) -> Sites:
    """The sites and a new one.

    Raises:
        SetupError: the name is impossible or taken, another site has one of these keys, or a held-out site exists.
    """
    _check_name(name)
    if name in sites:
        raise SetupError(
            f"{name}: is enrolled already, since {sites[name].added}. For its new keys, or its kit once more, add "
            "--replace; another hospital needs another name."
        )
    held_out = [other for other, site in sites.items() if site.role is Role.HELD_OUT]
    if role is Role.HELD_OUT and held_out:
        raise SetupError(
            f"{held_out[0]}: is the held-out hospital already, and a federation has one. "
            f"Enrol {name} as a source, or remove {held_out[0]} first."
        )
    return _with(sites, name, role, keys)


def with_keys(sites: Mapping[str, Enrolled], name: str, role: Role, keys: SiteKeys) -> Sites:
    """The sites with new keys for one of them.

    Raises:
        SetupError: no such site, it has another role, or another site has one of these keys.
    """
    site = enrolled(sites, name)
    if site.role is not role:
        raise SetupError(
            f"{name}: is enrolled as {site.role}, not as {role}, and new keys do not change a role. "
            f"Say --role {site.role}, or remove the site and add it anew."
        )
    return dict(sites) if site.keys == keys else _with(sites, name, role, keys)


def without_site(sites: Mapping[str, Enrolled], name: str) -> Sites:
    """
    Raises:
        SetupError: no such site.
    """
    enrolled(sites, name)
    return {other: site for other, site in sites.items() if other != name}


def enrolled(sites: Mapping[str, Enrolled], name: str) -> Enrolled:
    """
    Raises:
        SetupError: no such site.
    """
    if name not in sites:
        known = ", ".join(sorted(sites)) or "no site"
        raise SetupError(f"{name}: is not enrolled; {known} is. `roiae-server sites` lists the enrolled sites.")
    return sites[name]


def _with(sites: Mapping[str, Enrolled], name: str, role: Role, keys: SiteKeys) -> Sites:
    for other, site in sites.items():
        shared = [key for key in keys if key in site.keys]
        if other != name and shared:
            raise SetupError(
                f"{name}: has a key of {other} ({fingerprint(shared[0])}). A key proves one site, so each makes its "
                "own: ask for the .pub file that `roiae-client init` wrote there."
            )
    reply, node = (public_line(key, name) for key in keys)
    site = Enrolled(role=role, reply_key=reply, node_key=node, added=datetime.now(UTC).date())
    return {**sites, name: site}


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise SetupError(
            f"{name!r}: is not a site's name; small letters, digits and hyphens, at most 63, make one. "
            "It stands behind each key in the hospital's .pub file; if it was lost on the way, give it with --name."
        ) from None

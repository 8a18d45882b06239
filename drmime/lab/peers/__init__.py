"""Registration programs of others ("peers") behind one interface, for fair comparisons."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from drmime.lab.peers.ants import ants
from drmime.lab.peers.base import Peer, Problem, Run
from drmime.lab.peers.deformable import ants_syn, convexadam, elastix_bspline
from drmime.lab.peers.elastix import elastix
from drmime.lab.peers.opencv import ecc, sift
from drmime.lab.peers.simple import centre, identity, start
from drmime.lab.peers.simpleitk import simpleitk
from drmime.lab.peers.skimage import phase
from drmime.registry import known

__all__ = ["PEERS", "Peer", "Problem", "Run", "ready", "settings"]

PEERS: dict[str, Peer] = {
    "ants": ants,
    "ants_syn": ants_syn,
    "centre": centre,
    "convexadam": convexadam,
    "ecc": ecc,
    "elastix": elastix,
    "elastix_bspline": elastix_bspline,
    "identity": identity,
    "phase": phase,
    "sift": sift,
    "simpleitk": simpleitk,
    "start": start,
}


def settings(peer: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a peer with their values: those in `options`, else the defaults.

    Only names are checked here, and no package is imported; the peer itself checks values.

    Raises:
        InputError: no such peer, or it has no such option; the message names the nearest.
    """
    parameters = list(signature(PEERS[known("peer", peer, PEERS)]).parameters.values())[1:]  # the first is the problem
    for option in options:
        known(f"option of peer {peer!r}", option, [parameter.name for parameter in parameters])
    return {parameter.name: options.get(parameter.name, parameter.default) for parameter in parameters}


def ready(problem: Problem, peer: str, options: Mapping[str, Any]) -> Run:
    """Prepare a peer: import its package and convert the images. The function returned is what is timed.

    Raises:
        InputError: no such peer or option, an invalid value or dimension, or its package is not installed.
    """
    return PEERS[known("peer", peer, PEERS)](problem, **settings(peer, options))

"""Places on the earth, in degrees: their distances, and the areas that filters name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.records import Place

EARTH_RADIUS = 6_371_008.7714
"""The mean radius in metres, as in Elasticsearch."""
MAX_CORNERS = 200
UNITS = {"m": 1.0, "km": 1_000.0, "mi": 1_609.344}
"""Units of distance in metres."""
Degrees = NDArray[np.float64]


def place_problem(lat: float, lng: float) -> str:
    """The reason why two numbers are not a place; empty for a place."""
    if not (math.isfinite(lat) and math.isfinite(lng)):
        return "a latitude and a longitude must be finite numbers"
    if abs(lat) <= 90 and abs(lng) <= 180:
        return ""
    swapped = abs(lat) <= 180 and abs(lng) <= 90
    return f"a latitude is -90 to 90 and a longitude -180 to 180{'; these may be swapped' if swapped else ''}"


def coordinates(places: Sequence[Place]) -> tuple[Degrees, Degrees]:
    """The latitudes and the longitudes of places, (n,) each."""
    return np.array([each.lat for each in places], np.float64), np.array([each.lng for each in places], np.float64)


def distances(place: Place, lat: Degrees, lng: Degrees) -> NDArray[np.float64]:
    """The distances (n,) in metres from a place to others on a sphere, by the haversine formula (Sinnott 1984)."""
    one, others = math.radians(place.lat), np.radians(lat)
    halves = np.sin((others - one) / 2) ** 2
    halves += math.cos(one) * np.cos(others) * np.sin(np.radians(lng - place.lng) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.minimum(halves, 1.0))))


@dataclass(frozen=True, slots=True)
class Circle:
    """The points within a distance of a place."""

    center: Place
    metres: float

    @property
    def problem(self) -> str:
        """The reason why it is not a valid area; empty for a valid one."""
        radius = "" if self.metres >= 0 and math.isfinite(self.metres) else "a radius must be a number from 0"
        return place_problem(self.center.lat, self.center.lng) or radius

    def contains(self, lat: Degrees, lng: Degrees) -> NDArray[np.bool_]:
        """Whether each place (n,) is in it."""
        return distances(self.center, lat, lng) <= self.metres


@dataclass(frozen=True, slots=True)
class Box:
    """The points between two latitudes and two longitudes; if `west` is above `east`, it crosses the 180th meridian."""

    south: float
    west: float
    north: float
    east: float

    @property
    def problem(self) -> str:
        order = "" if self.south <= self.north else "a box is south, west, north, east, so the first is below the third"
        return place_problem(self.south, self.west) or place_problem(self.north, self.east) or order

    def contains(self, lat: Degrees, lng: Degrees) -> NDArray[np.bool_]:
        above, below = lng >= self.west, lng <= self.east
        within = above & below if self.west <= self.east else above | below
        return np.asarray(within & (lat >= self.south) & (lat <= self.north))


@dataclass(frozen=True, slots=True)
class Polygon:
    """The points inside a closed line of corners, whose sides are straight in degrees."""

    corners: tuple[Place, ...]

    @property
    def problem(self) -> str:
        if not 3 <= len(self.corners) <= MAX_CORNERS:
            return f"a polygon needs 3 to {MAX_CORNERS} corners, each a latitude and a longitude"
        if found := next(filter(None, (place_problem(each.lat, each.lng) for each in self.corners)), ""):
            return found
        lngs = [each.lng for each in self.corners]
        if max(lngs) - min(lngs) > 180:
            return "a polygon spans at most 180 degrees of longitude; split it into two"
        edges = list(pairwise((*self.corners, self.corners[0])))
        is_crossed = any(_cross(*one, *other) for one, other in combinations(edges, 2))
        has_area = any(_side(self.corners[0], self.corners[1], each) for each in self.corners[2:])
        return "the sides of a polygon may not cross" if is_crossed else "" if has_area else "a polygon needs an area"

    def contains(self, lat: Degrees, lng: Degrees) -> NDArray[np.bool_]:
        """Whether each place is inside, by the parity of the sides to the east of it (Shimrat 1962)."""
        is_inside = np.zeros(len(lat), bool)
        for one, other in pairwise((*self.corners, self.corners[0])):
            if one.lat != other.lat:
                crossing = one.lng + (lat - one.lat) / (other.lat - one.lat) * (other.lng - one.lng)
                is_inside ^= ((one.lat > lat) != (other.lat > lat)) & (lng < crossing)
        return is_inside


Area = Circle | Box | Polygon


def _side(one: Place, other: Place, place: Place) -> float:
    """The side of a line on which a place is, as a sign; 0 on the line."""
    return (other.lng - one.lng) * (place.lat - one.lat) - (other.lat - one.lat) * (place.lng - one.lng)


def _cross(one: Place, other: Place, start: Place, end: Place) -> bool:
    """Whether two sides cross inside both."""
    return (
        _side(one, other, start) * _side(one, other, end) < 0 and _side(start, end, one) * _side(start, end, other) < 0
    )

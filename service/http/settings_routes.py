"""The settings that this process serves with, to look at: they are changed where they are read."""

from __future__ import annotations

from typing import Any, NoReturn

from fastapi import APIRouter, Request, Response

from service.http.answers import RESPONSES, tagged_response
from service.http.context import MayAdminister
from service.http.errors import Refused
from service.settings_view import SettingSections, ShownSetting

_EXAMPLE = {
    "service": {
        "port": {
            "value": 8081,
            "default": 8080,
            "source": "environment",
            "is_secret": False,
            "variable": "SHELFWISE_SERVICE__PORT",
            "description": "the port; 0 takes a free one",
        },
    },
    "elasticsearch": {
        "url": {
            "value": ["https://***@search-1.example:9200"],
            "default": [],
            "source": "file",
            "is_secret": False,
            "variable": "SHELFWISE_ELASTICSEARCH__URL",
            "description": "where the cluster is",
        },
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {"description": "Each section and its settings.", "content": {"application/json": {"example": _EXAMPLE}}},
    304: {"description": "They are as the client has them."},
}

router = APIRouter(prefix="/v1/settings", tags=["store"])


@router.get(
    "", response_model=dict[str, dict[str, ShownSetting]], responses=_RESPONSES, summary="The settings it serves with"
)
async def settings(request: Request, _permit: MayAdminister) -> Response:
    """What each is, its default and who says so; no password and no key. They are read when the service starts."""
    shown: SettingSections = request.app.state.settings
    return tagged_response(request, shown)


@router.api_route("", methods=["PUT", "PATCH", "POST", "DELETE"], response_model=None, include_in_schema=False)
async def change(_permit: MayAdminister) -> NoReturn:
    """Raises Refused: nothing is changed here."""
    raise Refused(
        405,
        "settings are read when the service starts: change shelfwise.toml, or the environment, and start it again; "
        "GET shows what each of them is called there",
        allow="GET",
    )

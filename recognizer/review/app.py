"""The page of a review over HTTP, behind a random word in its address."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from recognizer.corrections.log import Verdict
from recognizer.images.rooted import path_under
from recognizer.review.session import ReviewSession
from recognizer.serving.guards import Guard
from recognizer.serving.server import add_error_handlers
from recognizer.serving.settings import ServeSettings

# The page is written anew after learning, under the same names.
_HEADERS = {"cache-control": "no-cache", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


class Said(BaseModel):
    """A correction as the page sends it."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=64)
    key: str = Field(max_length=20_000)
    verdict: Verdict = "category"
    new: str | None = Field(default=None, max_length=10_000)
    group: str = Field(default="", max_length=10_000)
    xyxy: tuple[float, float, float, float] | None = None


class Described(BaseModel):
    """A description of a category."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=10_000)
    group: str = Field(default="", max_length=10_000)
    text: str = Field(min_length=1, max_length=10_000)


def make_review_app(session: ReviewSession, *, word: str, settings: ServeSettings) -> FastAPI:
    """Return the application; it closes the session when it is shut down.

    Args:
        session: the review.
        word: the first part of every path; who does not know it is answered that there is nothing.
        settings: limits.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(session.close)

    app = FastAPI(title="Recognizer review", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    router = APIRouter(prefix=f"/{word}")

    @router.get("/review/state")
    async def state() -> dict[str, Any]:
        return await asyncio.to_thread(session.state)

    @router.post("/review/corrections")
    async def correct(said: list[Said]) -> dict[str, int]:
        def keep() -> None:
            for one in said:
                session.correct(one.key, one.verdict, id=one.id, new=one.new, group=one.group, xyxy=one.xyxy)

        await asyncio.to_thread(keep)
        return {"kept": len(said)}

    @router.get("/review/categories")
    async def categories(search: str = "") -> list[dict[str, str]]:
        return await asyncio.to_thread(session.search, search[:200])

    @router.post("/review/learn")
    async def learn() -> dict[str, str]:
        return {"message": await asyncio.to_thread(session.learn)}

    @router.post("/review/describe")
    async def describe(described: Described) -> dict[str, str]:
        told = await asyncio.to_thread(session.describe, described.name, described.group, described.text)
        return {"message": told}

    @router.get("/{path:path}")
    async def file(path: str) -> Response:
        found = path_under(session.report, path or "index.html")
        if found is None or not os.path.isfile(found):
            raise HTTPException(404, "there is no such file")
        return FileResponse(os.fsdecode(found), headers=_HEADERS)

    app.include_router(router)
    add_error_handlers(app)
    app.add_middleware(Guard, token=None, names=(), settings=settings)
    return app

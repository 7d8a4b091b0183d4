"""How much a server takes on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ServeSettings(BaseModel):
    """Limits of `recognizer serve`.

    They bound what clients can make the server hold: connections, bodies (on the disk, and four at a time in memory
    where they are JSON), and images in the size of the model input.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_body_bytes: int = Field(default=64 * 2**20, ge=1, description="of one request; larger ones are refused (413)")
    most_images: int = Field(default=32, ge=1, description="of one request")
    most_top_k: int = Field(default=100, ge=1, description="candidates that a request may ask for")
    queue: int = Field(default=256, ge=1, description="images that may wait; more are refused (503, Retry-After)")
    most_uploads: int = Field(
        default=64, ge=1, description="requests with a body at a time; of more, a slow one or the last is refused (503)"
    )
    connections: int = Field(
        default=1000, ge=1, description="open at a time; of more, the longest without a header is closed"
    )
    header_seconds: float = Field(default=10, gt=0, description="for the header of a request, then it is closed")
    body_seconds: float = Field(default=30, gt=0, description="for the body of a request, then it is refused (408)")
    stop_seconds: float = Field(default=30, gt=0, description="for requests in flight when the server is stopped")

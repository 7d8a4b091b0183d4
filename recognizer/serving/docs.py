"""What `/docs` shows beside what FastAPI reads from the routes: bodies that are streamed, answers, and errors."""

from __future__ import annotations

from typing import Any

from recognizer.serving.uploads import JsonImage, JsonRequest

TAGS = [
    {"name": "recognition", "description": "Images in, rows out."},
    {"name": "memory", "description": "Categories and example images. Changes need a server with `--writable`."},
    {"name": "server", "description": "For supervisors and monitoring."},
]
ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any error: 400 a request that makes no sense, 401 a missing or wrong token, 404 nothing of "
        "that name, 408 a body that came too slowly, 413 one that is too large, 503 a full queue (Retry-After).",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["status", "message"],
                            "properties": {"status": {"type": "integer"}, "message": {"type": "string"}},
                        }
                    },
                },
                "example": {"error": {"status": 400, "message": "top_k is 1000; this server gives up to 100"}},
            }
        },
    }
}
ROWS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "rows": [
                        {
                            "path": "kingfisher.jpg",
                            "status": "ok",
                            "width": 640,
                            "height": 480,
                            "label": "kingfisher",
                            "confidence": 0.91,
                            "calibrated": False,
                            "unknown": None,
                            "candidates": [
                                {"category": "kingfisher", "score": 0.43, "confidence": 0.91, "evidence": []}
                            ],
                            "rerank": None,
                        }
                    ]
                }
            }
        }
    }
}
_EXAMPLE = {"images": [{"name": "kingfisher.jpg", "base64": "/9j/4AAQ…"}]}
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}


def _body(form: dict[str, Any], properties: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """Return a body that is a form, or JSON with some properties; both need the property `images`."""
    shape = {"type": "object", "required": ["images"]}
    images = {"images": {"type": "array", "minItems": 1, "items": JsonImage.model_json_schema()}}
    schema = shape | {"properties": properties | images, "additionalProperties": False}
    content = {
        "multipart/form-data": {"schema": shape | {"properties": {"images": _FILES} | form}},
        "application/json": {"schema": schema, "example": example},
    }
    return {"requestBody": {"required": True, "content": content}}


RECOGNIZE = _body(
    {
        "top_k": {"type": "integer", "example": 3},
        "rerank": {"type": "boolean"},
        "boxes": {"type": "string", "description": "JSON, as in the other form of the request", "example": "[null]"},
    },
    JsonRequest.model_json_schema()["properties"],
    _EXAMPLE | {"top_k": 3},
)
EXEMPLARS = _body({}, {}, _EXAMPLE)

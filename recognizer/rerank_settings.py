"""The settings of reranking: which images an MLLM is asked about, which MLLM, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# These decide how fast and how patiently an MLLM is asked, not what it answers.
PATIENCE = frozenset(
    {
        "device",
        "batch_size",
        "tensor_parallel_size",
        "max_num_seqs",
        "enforce_eager",
        "concurrency",
        "timeout_s",
        "retries",
        "give_up_after",
        "cache",
        "api_key_env",
    }
)


class RerankSettings(BaseModel):
    """How the top k of an image are put in their final order by a frozen multimodal LLM."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: Literal["off", "auto", "always"] = Field(
        default="off", description="auto: only images where the margin of the two best confidences is small"
    )
    model: str | None = Field(
        default=None, description="hub name, directory, vllm:NAME, or URL of an OpenAI-compatible server"
    )
    backend: Literal["auto", "transformers", "vllm", "openai"] = Field(
        default="auto", description="auto: a URL is a server, the rest transformers"
    )
    revision: str | None = Field(default=None, description="commit of a hub model; pin it for results that last")
    served_model: str | None = Field(default=None, description="model's name at a server; null: the first it lists")
    mode: Literal["choice", "list"] = Field(
        default="choice", description="choice: one constrained token per rotation; list: a written list (RAR's way)"
    )
    rotations: int | None = Field(
        default=None, ge=1, description="of the option order, per image; null: as many as options"
    )
    weight: float = Field(default=1.0, ge=0, description="lambda in softmax(lambda log p_mllm + log p_retrieval)")
    margin: float = Field(default=0.3, ge=0, le=1, description="auto asks where confidence 1 - confidence 2 is below")
    descriptions: int = Field(default=3, ge=0, description="shown per option, those of its evidence, strongest first")
    image_size: int = Field(default=768, ge=28, description="longest side in pixels of what the MLLM sees")
    give_up_after: int = Field(default=5, ge=1, description="failed images in a row after which it is left alone")
    cache: str | None = Field(default=None, description="file of the answers; null: in the user's cache; off: none")
    fitted_for: str | None = Field(default=None, description="model that weight and margin were fitted for")
    device: str = Field(default="auto", description="transformers: auto, cpu, cuda, cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(default="auto", description="auto: as stored")
    batch_size: int = Field(default=8, ge=1, description="transformers: requests per forward pass")
    tensor_parallel_size: int = Field(default=1, ge=1, description="vllm: GPUs that share the model")
    max_num_seqs: int = Field(default=64, ge=1, description="vllm: requests in flight")
    max_model_len: int | None = Field(default=None, ge=1, description="vllm: tokens of prompt and answer")
    enforce_eager: bool = Field(default=False, description="vllm: no compilation; starts sooner, answers slower")
    concurrency: int = Field(default=16, ge=1, description="openai: requests in flight")
    timeout_s: float = Field(default=60.0, gt=0, description="openai: seconds per attempt")
    retries: int = Field(default=2, ge=0, description="openai: further attempts on 429, 5xx and lost connections")
    jpeg_quality: int | None = Field(default=95, ge=1, le=100, description="openai: of the images; null: PNG")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="openai: environment variable with the key")

    @field_validator("when", "cache", mode="before")
    @classmethod
    def _bare_off(cls, value: object) -> object:
        """YAML reads a bare `off` as false."""
        return "off" if value is False else value

    @property
    def fitted(self) -> bool:
        """Whether weight and margin were fitted for this model, asked in this way."""
        return self.mode == "choice" and self.fitted_for is not None and self.fitted_for == self.model_name

    @property
    def model_name(self) -> str | None:
        """The model as one spelling of it: a directory in full, an address without a slash at its end."""
        if self.model is None:
            return None
        return str(Path(self.model).resolve()) if Path(self.model).is_dir() else self.model.rstrip("/")

    def decisive(self) -> dict[str, Any]:
        """Return what decides the rows of a run, as JSON values; nothing but `when` where it is off."""
        if self.when == "off":
            return {"when": "off"}
        return self.model_dump(mode="json", exclude=set(PATIENCE))

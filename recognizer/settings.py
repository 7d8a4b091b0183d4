"""Every setting of a run, with its default, unit and bounds; unknown keys are errors.

Precedence, last one wins: the defaults here, what the memory carries, the `--config` file, `--set` overrides, flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from memory.errors import printable
from recognizer.boxes.settings import BoxSettings
from recognizer.images.limits import ImageLimits
from recognizer.serving.settings import ServeSettings
from recognizer.unknown.settings import UnknownSettings
from recognizer.yaml_settings import SettingsError as SettingsError
from recognizer.yaml_settings import load_yaml_settings

TERMS = ("image_name", "image_description", "region_description", "region_name")
"""The weighted terms of the score: the names and the order in which weights, evidence and reports have them."""

EXEMPLAR = "exemplar"
"""The term of the few-shot head in the evidence; it has no weight of its own."""

PRIOR = "prior"
"""How evidence names what a prior adds to the score, beside the terms."""

RENAMED_TERMS = {"name": "image_name", "description": "image_description", "region": "region_description"}
"""Earlier names of terms, by which stored settings and earlier result files still call them."""

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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    when: Literal["off", "auto", "always"] = Field(
        default="off", description="auto: only images where the margin of the two best confidences is small"
    )
    model: str | None = Field(
        default=None, description="hub name, directory, vllm:NAME, URL of an OpenAI-compatible server, or reranker:URL"
    )
    backend: Literal["auto", "transformers", "vllm", "openai", "reranker"] = Field(
        default="auto", description="auto: a URL is a server, the rest transformers"
    )
    revision: str | None = Field(default=None, description="commit of a hub model; pin it for results that last")
    served_model: str | None = Field(default=None, description="model's name at a server; null: the first it lists")
    mode: Literal["choice", "list"] = Field(
        default="choice", description="choice: one constrained token per rotation; list: a written list (RAR's way)"
    )
    rotations: Literal["auto"] | Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="of the option order, per image; null: as many as options; auto: 3, and all where those leave the "
        "first place open",
    )
    weight: float = Field(default=1.0, ge=0, description="lambda in softmax(lambda log p_mllm + log p_retrieval)")
    margin: float = Field(default=0.3, ge=0, le=1, description="auto asks where confidence 1 - confidence 2 is below")
    descriptions: int = Field(default=3, ge=0, description="shown per option, those of its evidence, strongest first")
    box: Literal["outline", "blur"] = Field(
        default="outline", description="how a given box is shown: drawn, or with what is outside of it blurred"
    )
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
    concurrency: int = Field(default=16, ge=1, description="server: requests in flight")
    timeout_s: float = Field(default=60.0, gt=0, description="server: seconds per attempt")
    retries: int = Field(default=2, ge=0, description="server: further attempts on 429, 5xx and lost connections")
    jpeg_quality: int | None = Field(default=95, ge=1, le=100, description="server: of the images; null: PNG")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="server: environment variable with the key")

    @field_validator("when", "cache", mode="before")
    @classmethod
    def _bare_off(cls, value: object) -> object:
        return _off_for_false(value)

    @field_validator("rotations", mode="wrap")
    @classmethod
    def _one_sentence(cls, value: object, handler: Callable[[object], int | str | None]) -> int | str | None:
        """Say what may be given, for pydantic says of each kind why it is not that."""
        try:
            return handler(value)
        except ValidationError:
            raise ValueError("give a whole number of at least 1, auto or null") from None

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
        """Return what decides the rows of a run, as JSON values; nothing but `when` where it is off.

        `box` is left out where it is the default, for runs of earlier releases do not know it.
        """
        if self.when == "off":
            return {"when": "off"}
        usual = {"box"} if self.box == "outline" else set()
        return self.model_dump(mode="json", exclude={*PATIENCE, *usual})


def _off_for_false(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, le=1)]


class ScoreSettings(_Section):
    """The weights of the additive score of `recognizer.score`, and what surrounds it.

    The four weights are named after the terms, are non-negative and sum to 1. What the memory's exemplars add stands
    beside them (`recognizer.heads`). The defaults were chosen on the
    development fold of the stamps and of the clutter scenes: 0.4 for the whole image and 0.6 for its regions, in equal
    parts for names and descriptions.
    """

    image_name: float = Field(default=0.2, ge=0, le=1, description="image against the category's name")
    image_description: float = Field(default=0.2, ge=0, le=1, description="image against the named descriptions")
    region_description: float = Field(default=0.3, ge=0, le=1, description="best region of each bare description")
    region_name: float = Field(default=0.3, ge=0, le=1, description="best region against the name")
    region_threshold: float = Field(default=0.5, ge=0, le=1, description="regions of less weight are masked")
    # Chosen on the development folds: from 0.5 to 0.6 no figure is below the better of whole image and regions by more
    # than its interval; at 0.65 one is. Windows of an encoder without a decoder cover at most 0.51 of a square picture,
    # so hardly anything changes for them.
    largest_region: float = Field(
        default=0.6, ge=0, le=1, description="the whole image stands in for a region that covers a larger share of it"
    )
    head: Literal["auto", "proker", "off"] = Field(
        default="auto",
        description="of the exemplars; auto: proker, constants by leave-one-out at every start",
    )
    head_beta: float | None = Field(
        default=None, gt=0, description="proker: how fast the kernel falls with the cosine; null: the prior's"
    )
    head_ridge: float | None = Field(
        default=None, gt=0, description="proker: the larger, the less exemplars count; null: the prior's"
    )
    temperature: float | None = Field(
        default=None, gt=0, description="of the confidence: softmax(score / temperature); null: the encoder's own"
    )
    calibrated: bool = Field(
        default=False, description="whether temperature and threshold were fitted on labelled images"
    )
    unknown_threshold: float | None = Field(
        default=None, ge=0, le=1, description="confidence below which an image is unknown; needs calibrated: true"
    )
    min_confidence: float | None = Field(
        default=None, ge=0, le=1, description="confidence below which an image gets no label, calibrated or not"
    )
    precision: float | None = Field(
        default=None, gt=0, lt=1, description="least share of right labels; images that would lower it get no label"
    )
    roll_up: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="confidence that a label needs; else it is the lowest group that has it; auto: as calibrated",
    )
    precision_curve: Annotated[tuple[tuple[Share, Share, float], ...], Field(max_length=100)] | None = Field(
        default=None, description="confidence, precision at least reached from there on, images it was fitted on"
    )
    roll_up_thresholds: Annotated[tuple[Share, ...], Field(max_length=100)] | None = Field(
        default=None, description="confidence that a category, its group, and so on upwards, needs as a label"
    )

    @field_validator("roll_up", mode="wrap")
    @classmethod
    def _one_sentence(cls, value: object, handler: Callable[[object], str | float | None]) -> str | float | None:
        """Say what may be given, for pydantic says of each kind why it is not that."""
        try:
            return handler(value)
        except ValidationError:
            raise ValueError("give a confidence from 0 to 1, auto or null") from None

    @field_validator("head", mode="before")
    @classmethod
    def _bare_off(cls, value: object) -> object:
        return _off_for_false(value)

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = sum(self.weights())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the weights {', '.join(TERMS)} sum to {total:g}; they must sum to 1")
        return self

    @model_validator(mode="after")
    def _threshold_has_an_effect(self) -> Self:
        if self.unknown_threshold is not None and not self.calibrated:
            raise ValueError(
                f"unknown_threshold {self.unknown_threshold:g} has no effect where calibrated is false; run "
                "`recognizer calibrate`, which fits both, or give min_confidence, as `recognizer run --min-confidence` "
                "does: then images of lower confidence get no label"
            )
        return self

    def weights(self) -> tuple[float, ...]:
        """Return the four weights in the order of `TERMS`."""
        return tuple(getattr(self, term) for term in TERMS)

    def with_weights(self, weights: Iterable[float]) -> ScoreSettings:
        """Return the settings with other weights, four in the order of `TERMS`, which are not checked."""
        return self.model_copy(update=dict(zip(TERMS, weights, strict=True)))

    def uncalibrated(self) -> ScoreSettings:
        """Return the settings without what holds only where all categories compete."""
        fitted = ("unknown_threshold", "precision_curve", "roll_up_thresholds")
        return self.model_copy(update={"calibrated": False, **dict.fromkeys(fitted)})

    def only(self, *terms: str) -> ScoreSettings:
        """Switch every other term and the head off and share the weight among `terms` in their present proportions.

        Args:
            terms: names of terms; those that all have weight 0 share equally.
        """
        total = sum(getattr(self, term) for term in terms)
        return self.with_weights(
            (getattr(self, term) / total if total else 1 / len(terms)) if term in terms else 0.0 for term in TERMS
        ).model_copy(update={"head": "off"})


class RunSettings(_Section):
    """How a folder is run."""

    top_k: int = Field(default=5, ge=1, description="candidates per image")
    batch_size: int = Field(default=32, ge=1, description="images per forward pass")
    workers: int = Field(default=0, ge=0, description="decoding processes; 0: one per core")
    max_failed: float = Field(
        default=0.5, ge=0, le=1, description="share of failed images above which a run ends with exit code 1"
    )
    all_above: float | None = Field(
        default=None, gt=0, le=1, description="list every category whose presence is at least this; null: one label"
    )
    evidence: int = Field(default=0, ge=0, description="pieces of evidence per candidate, largest first; 0: all")
    features: str | None = Field(
        default=None, description="folder of stored image features; user: in the user's cache; null: none are stored"
    )
    index: Literal["auto", "exact", "hnsw", "ivf", "lance"] = Field(
        default="auto", description="auto: what the memory was built with; exact: every category is scored"
    )


class Settings(_Section):
    """All settings of `run`, `eval` and `why`."""

    score: ScoreSettings = ScoreSettings()
    run: RunSettings = RunSettings()
    images: ImageLimits = ImageLimits()
    rerank: RerankSettings = RerankSettings()
    boxes: BoxSettings = BoxSettings()
    unknown: UnknownSettings = UnknownSettings()
    serve: ServeSettings = ServeSettings()
    calibration: dict[str, Any] | None = Field(
        default=None, exclude=True, description="what `calibrate` fitted the score on; for people, changes nothing"
    )


def load_settings(
    config: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    base: Mapping[str, Any] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Settings:
    """Merge defaults, a base mapping, a YAML file and `a.b=c` overrides into validated settings.

    Args:
        config: a YAML file with the sections `score`, `run`, `images`, `rerank`, `boxes` and `unknown`, or None.
        overrides: strings `section.key=value`; the value is read as YAML (`true`, `0.3`, `[JPEG, PNG]`).
        base: settings that a memory carries (see `carried_settings`), the weakest after the defaults. Its
            `rerank.when` counts only with a model that the file or an override names.
        warn: called with one sentence where the file or the overrides use earlier names of settings, and where the
            memory asks for reranking and no model is named.

    Raises:
        SettingsError: an unknown key, a bad value, an unreadable file; the message names file or override and remedy.
    """
    renamed: dict[str, str] = {}

    def upgrade(source: Mapping[str, Any]) -> dict[str, Any]:
        renamed.update(earlier_names(source))
        return upgraded(source)

    base = upgraded(base or {})
    settings = load_yaml_settings(Settings, config, overrides, base=base, upgrade=upgrade)
    if settings.rerank.model is None and settings.rerank.when != "off" and "when" in base.get("rerank", {}):
        asked = base["rerank"]["when"]
        base["rerank"] = {key: value for key, value in base["rerank"].items() if key != "when"}
        settings = load_yaml_settings(Settings, config, overrides, base=base, upgrade=upgrade)
        if settings.rerank.when == "off" and warn is not None:
            warn(
                f"the memory asks for reranking ({asked}), but no multimodal LLM is named, so retrieval's order stays; "
                "give --rerank-model, now or later to `recognizer rerank`"
            )
    if renamed and warn is not None:
        names = ", ".join(f"score.{old} is now score.{new}" for old, new in renamed.items())
        warn(f"earlier names of settings are still read, but please write the new ones: {names}")
    return settings


def upgraded(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of one source under today's names.

    Args:
        source: sections as a file, an override or a memory has them; is not changed.

    Raises:
        SettingsError: it has one setting under two names, or one that no longer exists and had an effect.
    """
    score = source.get("score")
    if not isinstance(score, Mapping):
        return dict(source)
    if score.get("center"):
        raise SettingsError("score.center no longer exists: similarities are not centred. Take the setting out.")
    values = {key: value for key, value in score.items() if key != "center"}
    for old, new in earlier_names(source).items():
        if new in values:
            raise SettingsError(f"score.{old} is the earlier name of score.{new}, and both are set. Keep score.{new}.")
        values[new] = values.pop(old)
    # `calibrate` writes all settings of the score. Where this one is missing, it did not exist yet, and the weights
    # were fitted to regions of any size.
    if values.get("calibrated") and "region_threshold" in values:
        values.setdefault("largest_region", 1.0)
    return {**source, "score": _without_exemplar_weight(values)}


def _without_exemplar_weight(score: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of `score` without that of the exemplars, which earlier releases had among them.

    Raises:
        SettingsError: it stands alone, or has all the weight.
    """
    score.pop("exemplar_top", None)
    weight = score.pop("exemplar", None)
    if weight is None:
        return score
    if not isinstance(weight, int | float) or not 0 <= weight < 1 or (weight and not score.keys() >= set(TERMS)):
        raise SettingsError(
            f"score.exemplar = {printable(repr(weight))} no longer exists: exemplars count beside the weights, by "
            "score.head (auto, proker or off). Take the setting out."
        )
    return {**score, **{term: score[term] / (1 - weight) for term in TERMS if weight}}


def earlier_names(source: Mapping[str, Any]) -> dict[str, str]:
    """Return the earlier names of settings that a source uses, each with today's name, both within `score`."""
    score = source.get("score")
    return {old: new for old, new in RENAMED_TERMS.items() if isinstance(score, Mapping) and old in score}

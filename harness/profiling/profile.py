"""A profile of generation speed as a value: which models, sizes, batch sizes and samplers; read from TOML."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.suites.toml import read_toml
from harness.support.names import what_is_wrong

PositiveInt = Annotated[int, Field(strict=True, ge=1)]


class ProfileError(ValueError):
    """A profile that cannot be used; the message names the file, the key and what would be right."""


class ProfiledRow(BaseModel):
    """One ``[[models]]`` table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str | None = None
    """The model's registered name; of a trained model, what its run says."""
    label: str | None = None
    """The row's name in tables and plots; by default made from name and hyperparameters, or the run's name."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """What differs from the model's defaults."""
    run: str | None = None
    """A finished run's name or its beginning: its weights, at its size."""
    samplers: tuple[str, ...] | None = None
    """The model's samplers that are timed; those of the profile by default."""
    sizes: tuple[PositiveInt, ...] | None = None
    """Heights of square images; those of the profile by default."""

    @model_validator(mode="after")
    def _names_one_model(self) -> Self:
        if self.name is None and self.run is None:
            raise ValueError("name a model by 'name', or a trained one by 'run'")
        if self.run is not None and (self.hyperparameters or self.sizes):
            raise ValueError("a run has hyperparameters and a size of its own")
        return self

    @property
    def row_label(self) -> str:
        """The row's name."""
        if self.label is not None or self.name is None:
            return self.label or str(self.run)
        shown = [f"{key}={value}" for key, value in sorted(self.hyperparameters.items())]
        shown += [f"run {self.run}"] if self.run else []
        return f"{self.name} ({', '.join(shown)})" if shown else self.name


class GenerationProfile(BaseModel):
    """What ``harness profile generation`` measures."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    profile: Literal["generation"] = "generation"
    """``generation``: this file is a profile, and no suite of trainings."""
    title: str = "Generation speed"
    """What the tables are headed by."""
    models: tuple[ProfiledRow, ...] = Field(min_length=1)
    """What is timed."""
    sizes: tuple[PositiveInt, ...] = (8, 16, 32)
    """Heights of square images, for models that are not trained."""
    batch_sizes: tuple[PositiveInt, ...] = (1, 16)
    """How many images are drawn at a time."""
    samplers: tuple[str, ...] | None = None
    """The samplers that are timed, by their names; by default all that a model has."""
    baseline: str | None = None
    """A label or a model's name, which the others are compared with."""
    channels: PositiveInt = 1
    """Channels of the images."""
    levels: int = Field(default=2, strict=True, ge=2, le=256)
    """Values that an entry of an image can take."""
    rounds: PositiveInt = 5
    """How often each sampler is timed, all of one size and batch size in turn."""
    threads: PositiveInt = 1
    """Processor threads."""
    device: str = "auto"
    """``cpu``, ``cuda`` or another of torch's names, or ``auto``."""
    budget_seconds: float = Field(default=30.0, strict=True, gt=0, allow_inf_nan=False)
    """How long one sampler may take at one size and batch size, rounds together."""
    seed: int = Field(default=0, strict=True, ge=0, lt=2**31)
    """Seed of weights that are not trained, and of the noise."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [row.row_label for row in self.models]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"two models are labelled {twice[0]!r}; give one of them a label of its own")
        for name in ("sizes", "batch_sizes", "samplers"):
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise ValueError(f"{name} = {list(values)} must name at least one, and none of them twice")
        if self.baseline not in {None, *labels, *(row.name for row in self.models)}:
            raise ValueError(f"baseline {self.baseline!r} is none of the models: {', '.join(labels)}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a profile from a TOML file; ProfileError for a missing or malformed one, or a suite of trainings."""
        content = read_toml(path, "profile", ProfileError)
        if "profile" not in content:
            raise ProfileError(f"{path}: a profile begins with: profile = 'generation'")
        return cls.make(content, source=str(path))

    @classmethod
    def make(cls, content: dict[str, Any], *, source: str) -> Self:
        """Makes a profile from plain values; ``source`` stands in the messages of a ProfileError."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            known = ProfiledRow if "models" in first["loc"] else cls
            raise ProfileError(f"{source}: {what_is_wrong(first, known.model_fields)}") from error

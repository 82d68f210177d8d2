"""What a model is, as one frozen description: the m^n family with its names, and models over log-mel; no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args, get_type_hints

from samptag.errors import UsageError

FrontEnd = Literal["raw", "mel"]
Block = Literal["plain", "se", "res", "rese", "won-rese"]
OddZero = Literal["front", "end"]
Architecture = Literal["musicnn", "vgg", "won-musicnn", "won-fcn"]
"""musicnn and vgg are those of the package musicnn (Pons, Serra 2019); won-* are the musicnn and the FCN of Won,
Ferraro, Bogdanov, Serra (SMC 2020)."""

BASE_CHANNELS = 128
# A segment of more than 12 minutes at 22 050 Hz is a typing error (n is an exponent).
MAX_INPUT_LENGTH = 2**24
# The paper's grid (Lee 2017): m, samples in a segment, numbers of modules; the shorter segment of each m first.
PAPER_GRID = (
    (2, 16_384, range(6, 14)),
    (2, 32_768, range(7, 15)),
    (3, 19_683, range(3, 9)),
    (3, 59_049, range(4, 10)),
    (4, 16_384, range(3, 7)),
    (4, 65_536, range(4, 8)),
    (5, 15_625, range(3, 6)),
    (5, 78_125, range(4, 7)),
)
# The segment of the paper's three-system comparison (Lee 2017).
FRAME_LEVEL_M = 3
FRAME_LEVEL_INPUT_LENGTH = 59_049
# Samples in a segment at 16 kHz (188 frames of 256, 3 s or 29 s), and the size of the embedding.
_SIZES = {"musicnn": (48_128, 200), "vgg": (48_128, 256), "won-musicnn": (48_000, 200), "won-fcn": (464_000, 64)}

# What a value from JSON may be: a type, or any of several types and strings.
Kind: TypeAlias = type | tuple[type | str, ...]

_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    list: "a list",
    dict: "an object",
    NoneType: "null",
}


def check_kind(name: str, value: object, kind: Kind) -> None:
    """Refuse a `value` that is not of `kind`; True and False are not numbers, but a whole number is a float."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not any(_is_a(value, each) for each in kinds):
        words = [_WORDS[each] if isinstance(each, type) else repr(each) for each in kinds]
        raise ValueError(f"{name} must be {' or '.join(words)}, not {value!r:.80}")


def _is_a(value: object, kind: type | str) -> bool:
    if not isinstance(kind, type):
        return value == kind and type(value) is type(kind)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


Described = TypeVar("Described", bound="_Description")


class _Description:
    """Refuses values that its annotations do not allow; goes into JSON and comes back."""

    _kinds: ClassVar[Mapping[str, Kind]] = {}

    def __init_subclass__(cls) -> None:
        cls._kinds = {name: get_args(hint) or hint for name, hint in get_type_hints(cls).items() if name != "_kinds"}

    def __post_init__(self) -> None:
        for name, kind in self._kinds.items():
            check_kind(name, getattr(self, name), kind)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as JSON holds them."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls: type[Described], values: Mapping[str, Any]) -> Described:
        """The description with these fields; a ValueError where one is unknown, of the wrong type or out of range."""
        if unknown := sorted(set(values) - cls._kinds.keys()):
            raise ValueError(f"unknown model setting {unknown[0]!r}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Description):
    """A model of the m^n family (Lee, Park, Kim, Nam 2017) or one of its successors.

    The defaults are the paper's best model, 3^9 on 59 049 samples.

    Parameters
    ----------
    m : int
        Filter length and pooling length of the body modules, at least 2.
    n : int
        Number of body modules, at least 3; the body takes ``m**n`` frames.
    first_filter : int
        Length of the front end's filters (or of the mel window) in samples, at least `first_stride`.
    first_stride : int
        Distance between the starts of the front end's frames, in samples.
    n_tags, sample_rate : int
        Number of outputs, and the sample rate in Hz of the waveforms the model is made for.
    front_end : {"raw", "mel"}
        A strided convolution over the waveform, or 128 log-mel bands.
    block : {"plain", "se", "res", "rese", "won-rese"}
        The paper's module; Kim 2018's squeeze-and-excitation, residual, or both; Won 2020's residual block with
        squeeze and excitation, used for the first and last convolution as well.
    multi_level : bool
        Whether the global maxima of the last three modules, instead of the last one's output, are classified
        (Kim 2018).
    front_padding : int or None
        Zeros on each side of the waveform before the front end. None pads just enough for exactly ``m**n`` frames:
        ``first_filter - first_stride`` in total, the smaller half in front.
    dropout : float
        Share of the embedding dropped in training, in [0, 1).
    bn_momentum : float
        Weight of a new batch in the running statistics of batch normalisation (Keras' 0.99 is 0.01 here).
    bn_epsilon : float
        Added to the variance in batch normalisation: 1e-3 in Keras 2 (Kim 2018), 1e-5 in the Keras 1.1.0 of Lee 2017.
    odd_zero : {"end", "front"}
        Where a 'same' convolution with an even filter puts its odd zero: at the end as in TensorFlow, or in front as in
        the Theano of Lee 2017. Odd filters have none.

    Raises
    ------
    ValueError
        Where the numbers do not make a model; the message says which and why.
    """

    m: int = 3
    n: int = 9
    first_filter: int = 3
    first_stride: int = 3
    n_tags: int = 50
    sample_rate: int = 22_050
    front_end: FrontEnd = "raw"
    block: Block = "plain"
    multi_level: bool = False
    front_padding: int | None = None
    dropout: float = 0.5
    bn_momentum: float = 0.01
    bn_epsilon: float = 1e-3
    odd_zero: OddZero = "end"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"m": 2, "n": 3, "first_stride": 1, "n_tags": 1, "sample_rate": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.first_filter < self.first_stride:
            raise ValueError(
                f"first_filter {self.first_filter} is shorter than first_stride {self.first_stride}: "
                "samples between the filters would be skipped"
            )
        for name, fits, range_ in (
            ("dropout", 0 <= self.dropout < 1, "in [0, 1)"),
            ("bn_momentum", 0 < self.bn_momentum <= 1, "in (0, 1]"),
            ("bn_epsilon", self.bn_epsilon > 0, "above 0"),
            ("front_padding", (self.front_padding or 0) >= 0, "at least 0"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {range_}, not {getattr(self, name)}")
        # The exponent first: m**n with a typing error like n=10**9 would never finish.
        if self.n > 24 or self.input_length > MAX_INPUT_LENGTH:
            raise ValueError(
                f"{self.m}^{self.n} frames of {self.first_stride} samples are more than the {MAX_INPUT_LENGTH} "
                "samples a segment may have"
            )
        if self.front_padding is not None:
            frames = (self.input_length + 2 * self.front_padding - self.first_filter) // self.first_stride + 1
            if frames != self.frames:
                raise ValueError(
                    f"front_padding {self.front_padding} makes {frames} frames of {self.first_filter} samples, "
                    f"{self.first_stride} apart, where the body needs {self.m}^{self.n} = {self.frames}"
                )
        if self.block == "won-rese" and self.front_end == "mel":
            raise ValueError("block 'won-rese' starts with a convolution over the waveform and takes no mel front end")

    @property
    def frames(self) -> int:
        """Number of frames that the front end makes of a segment, ``m**n``."""
        return int(self.m**self.n)

    @property
    def input_length(self) -> int:
        """Number of samples in a segment, ``m**n * first_stride``."""
        return self.frames * self.first_stride

    @property
    def front_channels(self) -> int:
        """Number of the front end's channels (filters, or mel bands)."""
        return BASE_CHANNELS

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the n body modules: 128 for the first two, 512 for the last, 256 for the others."""
        base = BASE_CHANNELS
        return (base, base, *[2 * base] * (self.n - 3), 4 * base)

    @property
    def embedding_size(self) -> int:
        """Length of the embedding: 512, or all channels that `multi_level` collects."""
        return sum(self.channels[-3:]) if self.multi_level else self.channels[-1]

    @property
    def front_pads(self) -> tuple[int, int]:
        """Zeros before and after the waveform."""
        if self.front_padding is not None:
            return self.front_padding, self.front_padding
        total = self.first_filter - self.first_stride
        return total // 2, total - total // 2

    def same_pads(self, kernel: int) -> tuple[int, int]:
        """Zeros before and after the frames of a convolution that keeps their number."""
        fewer, more = (kernel - 1) // 2, kernel // 2
        return (more, fewer) if self.odd_zero == "front" else (fewer, more)

    @property
    def name(self) -> str:
        """The name from which `config_from_name` makes the same layers."""
        body, front = f"-{self.m}-{self.n}", f"-{self.first_filter}-{self.first_stride}"
        if self.front_end == "raw" and self.first_filter == self.first_stride:
            on_grid = _grid_stride(self.m, self.n) == self.first_filter
            name = f"samplecnn{body}" + ("" if on_grid else f"-{self.first_filter}")
        else:
            of_paper = (self.m, self.input_length) == (FRAME_LEVEL_M, FRAME_LEVEL_INPUT_LENGTH)
            name = f"frame-{self.front_end}" + ("" if of_paper else body) + front
        name += "" if self.block == "plain" else f"-{self.block}"
        name += "-multi" if self.multi_level else ""
        name += "" if self.front_padding is None else f"-pad{self.front_padding}"
        return name + ("-oddfront" if self.odd_zero == "front" else "")


_NAME = re.compile(
    r"(?:samplecnn-(?P<m>\d+)-(?P<n>\d+)(?:-(?P<filter>\d+))?"
    r"|frame-(?P<front>raw|mel)-(?:(?P<fm>\d+)-(?P<fn>\d+)-)?(?P<window>\d+)-(?P<hop>\d+))"
    rf"(?:-(?P<block>{'|'.join(get_args(Block)[1:])}))?(?P<multi>-multi)?(?:-pad(?P<pad>\d+))?(?P<odd>-oddfront)?"
)
_NAME_HELP = "names look like samplecnn-3-9, samplecnn-2-13-4, samplecnn-3-9-rese-multi or frame-mel-729-243"


def config_from_name(name: str, **overrides: Any) -> ModelConfig:
    """The config that a model name stands for, with `overrides` for other fields; a UsageError where that is no model.

    Beyond the names in docs/training.md, ``frame-raw-M-N-W-H`` and ``frame-mel-M-N-W-H`` have a body of any size,
    ``-padP`` puts P zeros on each side of the waveform, and ``-oddfront`` puts the `odd_zero` in front.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"unknown model name {name!r}: {_NAME_HELP}")
    try:
        return ModelConfig(**{**_fields_of_name(match), **overrides})
    except (TypeError, ValueError) as error:
        raise UsageError(f"model {name!r} cannot be built: {error}") from None


def _fields_of_name(match: re.Match[str]) -> dict[str, Any]:
    numbers = {key: int(match[key]) for key in ("m", "n", "filter", "fm", "fn", "window", "hop", "pad") if match[key]}
    result: dict[str, Any] = {
        "block": match["block"] or "plain",
        "multi_level": match["multi"] is not None,
        "front_padding": numbers.get("pad"),
        "odd_zero": "front" if match["odd"] else "end",
    }
    if match["front"] is None:
        m, n = numbers["m"], numbers["n"]
        first = numbers.get("filter", _grid_stride(m, n))
        if first is None:
            raise ValueError(f"{m}^{n} is not in the paper's grid; name its first filter too, as in {match[0]}-{m}")
        return {**result, "m": m, "n": n, "first_filter": first, "first_stride": first}
    front = {"front_end": match["front"], "first_filter": numbers["window"], "first_stride": numbers["hop"]}
    if "fm" in numbers:
        return {**result, **front, "m": numbers["fm"], "n": numbers["fn"]}
    depths = {FRAME_LEVEL_INPUT_LENGTH // FRAME_LEVEL_M**n: n for n in range(3, 10)}  # by the hop that makes 3^n frames
    if numbers["hop"] not in depths:
        known = "hops are 3, 9, 27, 81, 243, 729 and 2187"
        raise ValueError(f"a hop of {numbers['hop']} does not divide 59 049 samples into 3^n frames; {known}")
    return {**result, **front, "m": FRAME_LEVEL_M, "n": depths[numbers["hop"]]}


def _grid_stride(m: int, n: int) -> int | None:
    """The first stride of m^n in the paper's grid, of the shorter segment where there are two; None off the grid."""
    for grid_m, length, depths in PAPER_GRID:
        if m == grid_m and n in depths:
            return length // int(m**n)
    return None


@dataclass(frozen=True, kw_only=True)
class SpectrogramConfig(_Description):
    """One of the published models over 96 log-mel bands, all of them at 16 000 Hz."""

    architecture: Architecture
    n_tags: int = 50
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_tags < 1:
            raise ValueError(f"n_tags must be at least 1, not {self.n_tags}")
        if self.sample_rate != 16_000:
            raise ValueError(f"{self.architecture} takes sound at 16000 Hz, not {self.sample_rate}")

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.architecture

    @property
    def input_length(self) -> int:
        """Number of samples in a segment."""
        return _SIZES[self.architecture][0]

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return _SIZES[self.architecture][1]


# What describes a model that samptag can run.
Config: TypeAlias = ModelConfig | SpectrogramConfig


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """The description with the fields `values`; a `SpectrogramConfig` if ``architecture`` is one of them."""
    return (SpectrogramConfig if "architecture" in values else ModelConfig).from_dict(values)


def check_segments(shape: Sequence[int], config: Config) -> None:
    """Refuse a shape other than (batch, input_length), which is what the model takes."""
    if len(shape) != 2 or shape[1] != config.input_length:
        raise ValueError(f"{config.name} takes waveforms of shape (batch, {config.input_length}), not {tuple(shape)}")

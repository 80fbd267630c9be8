"""Experiments as JSON and TOML say them, and back. An unknown field is refused, with the one that was meant."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from retrieval.close_names import close_names
from retrieval.errors import ExperimentError
from service.experiments.checking import check
from service.experiments.experiment import Experiment, Options, Variant

MOST_FILE_BYTES = 1 << 20


def experiment_document(experiment: Experiment) -> dict[str, object]:
    """An experiment as plain values that JSON has, what is as by default left out."""
    made = {name: msgspec.to_builtins(value) for name, value in _given(experiment).items()}
    made["variants"] = [
        {name: msgspec.to_builtins(value) for name, value in _given(variant).items() if name != "options"}
        | ({"options": variant.options.given} if variant.options.given else {})
        for variant in experiment.variants
    ]
    return made


def experiment_of(said: object, place: str = "the experiment") -> Experiment:
    """The experiment that plain values say, checked; raises ExperimentError, which names the field."""
    fields = _object(said, place)
    _check_names(fields, Experiment, place)
    variants = fields.get("variants", ())
    for number, each in enumerate(variants if isinstance(variants, list | tuple) else ()):
        where = f"{place}: variants[{number}]"
        variant = _object(each, where)
        _check_names(variant, Variant, where)
        _check_names(_object(variant.get("options", {}), f"{where}.options"), Options, f"{where}.options")
    try:
        made = msgspec.convert(fields, Experiment)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = path.removesuffix("`").lstrip(".")
        told = f"{place}: {field}: {reason}" if field else f"{place}: {reason}"
        raise ExperimentError(told, field=field.rpartition(".")[2]) from None
    check(made)
    return made


def read_experiment(path: Path) -> Experiment:
    """The experiment of a JSON or TOML file; raises ExperimentError for one that cannot be read."""
    kind = "TOML" if path.suffix == ".toml" else "JSON"
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            raise ExperimentError(f"{path} has more than {MOST_FILE_BYTES:,} bytes; an experiment is shorter")
        said = tomllib.loads(content.decode()) if kind == "TOML" else msgspec.json.decode(content)
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read ({error.strerror}); name a JSON or TOML file") from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ExperimentError(f"{path} is no {kind}: {error}") from error
    return experiment_of(said, str(path))


def encoded(experiment: Experiment) -> str:
    """An experiment as one line of JSON."""
    return msgspec.json.encode(experiment_document(experiment)).decode()


def decoded(line: str) -> Experiment:
    """The experiment of which `encoded` made this line; raises ExperimentError or msgspec.DecodeError for another."""
    return experiment_of(msgspec.json.decode(line))


def _given(value: Experiment | Variant) -> dict[str, object]:
    """The fields that are not as by default; those without a default are always given."""
    fields = {each.name: (getattr(value, each.name), each.default) for each in dataclasses.fields(value)}
    return {name: given for name, (given, default) in fields.items() if given != default}


def _object(said: object, place: str) -> Mapping[str, object]:
    if not isinstance(said, Mapping) or not all(isinstance(name, str) for name in said):
        raise ExperimentError(f"{place}: is {type(said).__name__}, it must be an object with named fields")
    return said


def _check_names(said: Mapping[str, object], wanted: type, place: str) -> None:
    known = [each.name for each in dataclasses.fields(wanted)]
    for name in said:
        if name not in known:
            close = close_names(name, known)
            advice = f"did you mean {' or '.join(close)}?" if close else f"the fields are {', '.join(known)}"
            raise ExperimentError(f"{place}: no field {name[:100]!r}; {advice}", field=name)

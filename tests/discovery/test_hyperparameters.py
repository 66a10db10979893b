"""Hyperparameters: read off a constructor, checked strictly by type, completed with defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from harness.discovery.loading import HyperparameterError, as_json, parameters_of, resolve

if TYPE_CHECKING:
    from nowhere import ImageSpec, Missing


class Net:
    def __init__(
        self,
        spec: ImageSpec,
        *,
        hidden: tuple[int, ...] = (500, 500),
        learning_rate: float = 1e-3,
        layers: int = 2,
        activation: Literal["relu", "tanh"] = "relu",
        dropout: float | None = None,
        tied: bool = False,
    ) -> None:
        pass


class Derived(Net):
    pass


def test_what_is_not_given_takes_the_constructors_defaults():
    assert resolve(Net, {}) == {
        "hidden": (500, 500),
        "learning_rate": 1e-3,
        "layers": 2,
        "activation": "relu",
        "dropout": None,
        "tied": False,
    }


def test_what_is_given_stands_in_for_the_default():
    given = {"hidden": [20], "learning_rate": 0.1, "activation": "tanh", "dropout": 0.5, "tied": True}
    assert resolve(Net, given) == {"layers": 2, **given, "hidden": (20,)}


def test_a_constructor_is_inherited():
    assert resolve(Derived, {"layers": 5})["layers"] == 5


def test_an_integer_is_a_float():
    learning_rate = resolve(Net, {"learning_rate": 1})["learning_rate"]
    assert (learning_rate, type(learning_rate)) == (1.0, float)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("layers", "5", "a whole number"),
        ("layers", 1.5, "a whole number"),
        ("layers", 2.0, "a whole number"),
        ("layers", True, "a whole number"),
        ("layers", None, "a whole number"),
        ("learning_rate", "0.1", "a number"),
        ("learning_rate", True, "a number"),
        ("learning_rate", float("nan"), "a number"),
        ("learning_rate", float("inf"), "a number"),
        ("hidden", 500, "a list of whole numbers"),
        ("hidden", ["500"], "a list of whole numbers"),
        ("activation", "elu", "'relu' or 'tanh'"),
        ("tied", 1, "true or false"),
        ("dropout", "much", "a number or nothing"),
    ],
)
def test_a_value_of_another_type_is_refused_in_plain_words_by_model_name_and_value(name, value, right):
    with pytest.raises(HyperparameterError) as caught:
        resolve(Net, {name: value})
    assert str(caught.value) == f"Net: hyperparameter {name} has to be {right}, not {value!r}"


def test_an_unknown_name_is_refused_with_the_nearest_ones():
    with pytest.raises(
        HyperparameterError, match=r"Net has no hyperparameter 'learning_rat' \(did you mean 'learning_r"
    ):
        resolve(Net, {"learning_rat": 1e-3})


def test_the_spec_is_no_hyperparameter():
    assert "spec" not in parameters_of(Net)
    with pytest.raises(HyperparameterError, match="no hyperparameter 'spec'"):
        resolve(Net, {"spec": 3})


def test_an_annotation_that_only_type_checkers_see_is_named():
    class Odd:
        def __init__(self, spec: ImageSpec, *, layers: int = 1, kernel: Missing = None) -> None:
            pass

    assert resolve(Odd, {"layers": 3}) == {"layers": 3, "kernel": None}
    with pytest.raises(
        HyperparameterError, match=r"annotation of hyperparameter 'kernel' cannot be evaluated: .*Missing"
    ):
        resolve(Odd, {"kernel": 1})


def test_a_positional_hyperparameter_is_refused():
    class Positional:
        def __init__(self, spec, layers: int = 1) -> None:
            pass

    with pytest.raises(HyperparameterError, match="Positional: constructor argument 'layers' must be keyword-only"):
        parameters_of(Positional)


def test_forwarded_keyword_arguments_are_refused():
    class Forwarding:
        def __init__(self, spec, **options: int) -> None:
            pass

    with pytest.raises(HyperparameterError, match="Forwarding: constructor argument 'options' must be keyword-only"):
        parameters_of(Forwarding)


def test_a_hyperparameter_without_annotation_is_refused():
    class Bare:
        def __init__(self, spec, *, layers=1) -> None:
            pass

    with pytest.raises(HyperparameterError, match="Bare: hyperparameter 'layers' needs an annotation and a default"):
        parameters_of(Bare)


def test_a_hyperparameter_without_default_is_refused():
    class Demanding:
        def __init__(self, spec, *, layers: int) -> None:
            pass

    with pytest.raises(
        HyperparameterError, match="Demanding: hyperparameter 'layers' needs an annotation and a default"
    ):
        parameters_of(Demanding)


def test_resolved_hyperparameters_come_back_through_json():
    resolved = resolve(Net, {"hidden": [20, 10]})
    assert as_json(resolved)["hidden"] == [20, 10]
    assert resolve(Net, as_json(resolved)) == resolved


def model_of(annotation):
    class Model:
        def __init__(self, spec, *, kernel=None) -> None:
            pass

    Model.__init__.__annotations__["kernel"] = annotation
    return Model


@pytest.mark.parametrize("annotation", ["pytest.nowhere", "int or", "int | 'Text'", "Missing"])
def test_an_annotation_that_is_no_type_is_named_whatever_is_wrong_with_it(annotation):
    with pytest.raises(HyperparameterError, match="annotation of hyperparameter 'kernel' cannot be evaluated"):
        resolve(model_of(annotation), {"kernel": 3})


def test_a_value_for_a_type_that_no_file_can_hold_is_refused():
    with pytest.raises(HyperparameterError, match="Model: hyperparameter kernel has to be Net, not 3"):
        resolve(model_of("Net"), {"kernel": 3})


@pytest.mark.parametrize("default", [Net, float("nan"), {1, 2}])
def test_a_default_that_json_cannot_hold_is_refused_by_name(default):
    with pytest.raises(HyperparameterError, match=r"{'kind': .* are no JSON values"):
        as_json({"kind": default})

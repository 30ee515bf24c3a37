"""Which kinds keep the features of a flattened map is said once, for Keras' files, for PyTorch's and for converters."""

import pytest

from cnnlens.network.kinds import hands_on, keeps_features


@pytest.mark.parametrize("kind", ["Gelu", "Elu", "Selu", "LeakyRelu", "HardSigmoid", "HardSilu", "Softplus", "Softmax"])
def test_a_bare_activation_keeps_and_hands_on_the_features(kind: str) -> None:
    assert keeps_features(kind)
    assert hands_on(kind)


@pytest.mark.parametrize("kind", ["Add", "Multiply", "add", "mul"])
def test_what_merges_keeps_features_yet_does_not_take_any_order(kind: str) -> None:
    assert keeps_features(kind)
    assert not hands_on(kind)


@pytest.mark.parametrize("kind", ["Flatten", "Reshape", "Concatenate", "Dense", "Flip", "Cumsum", "cat", "unheard_of"])
def test_what_moves_features_keeps_none(kind: str) -> None:
    assert not keeps_features(kind)
    assert not hands_on(kind)

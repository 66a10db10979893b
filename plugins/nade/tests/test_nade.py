from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness import ImageSpec
from harness_nade.nade import NADE
from harness_nade.nade_kernel import nade_outputs


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def naive_outputs(inputs, weight, hidden_bias, output_weight, output_bias):
    outputs = []
    for d in range(inputs.shape[1]):
        activation = hidden_bias.expand(len(inputs), -1)
        for j in range(d):
            activation = activation + inputs[:, j] @ weight[j]
        outputs.append(activation.sigmoid() @ output_weight[d].T + output_bias[d])
    return torch.stack(outputs, dim=1)


def arguments(size: int, num_in: int, num_out: int, num_images: int = 3, num_hidden: int = 4) -> list[Tensor]:
    shapes = [
        (num_images, size, num_in),
        (size, num_in, num_hidden),
        (num_hidden,),
        (size, num_out, num_hidden),
        (size, num_out),
    ]
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


# Fewer entries than a chunk of the kernel, exactly two chunks, and a last chunk that is not full.
@pytest.mark.parametrize(("size", "num_in", "num_out"), [(5, 1, 1), (32, 1, 1), (37, 1, 1), (18, 3, 3)])
class TestKernel:
    def test_outputs_are_those_of_the_naive_formulation(self, size, num_in, num_out):
        given = arguments(size, num_in, num_out)
        torch.testing.assert_close(nade_outputs(*given), naive_outputs(*given), rtol=1e-12, atol=1e-12)

    def test_gradients_are_those_of_the_naive_formulation(self, size, num_in, num_out):
        given = arguments(size, num_in, num_out)
        cotangent = torch.randn(3, size, num_out, dtype=torch.float64)
        fast = torch.autograd.grad(nade_outputs(*given), given, cotangent)
        naive = torch.autograd.grad(naive_outputs(*given), given, cotangent)
        for one, other in zip(fast, naive, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_kernel_passes_gradcheck_across_a_chunk_boundary():
    assert torch.autograd.gradcheck(nade_outputs, arguments(18, 2, 2, num_images=2, num_hidden=2))


def test_jacobian_of_the_outputs_is_strictly_lower_triangular_and_full():
    given = [value.detach() for value in arguments(20, 1, 1, num_images=1)]
    jacobian = torch.autograd.functional.jacobian(lambda x: nade_outputs(x, *given[1:]), given[0])
    nonzero = jacobian.view(20, 20) != 0
    assert torch.equal(nonzero, torch.ones(20, 20).tril(-1).bool())


def test_binary_log_prob_is_the_papers_product_of_conditionals(every_image, randomised):
    spec = ImageSpec(channels=2, height=2, width=2, levels=2)
    model = randomised(NADE(spec, hidden=3))
    images = every_image(spec)[::13]
    weight, hidden_bias = model.weight[:, 0].tolist(), model.hidden_bias.tolist()
    output_weight, output_bias = model.output_weight[:, 0].tolist(), model.output_bias[:, 0].tolist()
    order = [(c, h, w) for h in range(2) for w in range(2) for c in range(2)]
    for image, log_prob in zip(images, model.log_prob(images).tolist(), strict=True):
        x = [image[entry].item() for entry in order]
        expected = 0.0
        for d in range(8):
            hidden = [sigmoid(hidden_bias[k] + sum(weight[j][k] * x[j] for j in range(d))) for k in range(3)]
            one = sigmoid(output_bias[d] + sum(output_weight[d][k] * hidden[k] for k in range(3)))
            expected += math.log(one if x[d] else 1 - one)
        assert log_prob == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("inputs", ["scaled", "one-hot"])
def test_multilevel_log_prob_is_the_product_of_softmax_conditionals(inputs, every_image, randomised):
    spec = ImageSpec(channels=1, height=2, width=2, levels=3)
    model = randomised(NADE(spec, hidden=3, inputs=inputs))
    images = every_image(spec)
    weight, hidden_bias = model.weight.tolist(), model.hidden_bias.tolist()
    output_weight, output_bias = model.output_weight.tolist(), model.output_bias.tolist()
    for image, log_prob in zip(images.flatten(1).tolist(), model.log_prob(images).tolist(), strict=True):
        expected = 0.0
        for d in range(4):
            hidden = []
            for k in range(3):
                activation = hidden_bias[k]
                for j in range(d):
                    activation += weight[j][0][k] * image[j] / 2 if inputs == "scaled" else weight[j][image[j]][k]
                hidden.append(sigmoid(activation))
            logits = [output_bias[d][v] + sum(output_weight[d][v][k] * hidden[k] for k in range(3)) for v in range(3)]
            expected += logits[image[d]] - math.log(sum(math.exp(logit) for logit in logits))
        assert log_prob == pytest.approx(expected, abs=1e-9)

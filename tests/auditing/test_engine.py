"""The audit as a whole: what it says, that it says the same again, and that nobody's code can break it."""

import logging
import math

import pytest
import torch
from museum.autoregressive import MADE
from torch import nn

import harness
from harness import audit
from harness.auditing.checks.latents import _continuous, _Draws
from harness.auditing.checks.neighbours import _stochastic_scores
from harness.auditing.cost import operations
from harness.auditing.engine import CHECKS, ERROR_RATE, _run, explain
from harness.auditing.estimates import FEWEST_SAMPLES, MOST_SAMPLES, affordable_samples, sampling_cost
from harness.auditing.laboratory import Laboratory, randomise
from harness.auditing.subject import Specimen
from harness.auditing.trial import NOT_REACHED, Trial


class Table(harness.Autoregressive):
    """Independent entries with learned logits."""

    def __init__(self, spec, *, scale: float = 1.0):
        super().__init__(spec)
        self.scale = scale
        self.logits = nn.Parameter(torch.zeros(spec.levels, *spec.shape))

    def conditional_logits(self, images, ordering=0):
        return (self.scale * self.logits).expand(len(images), *self.logits.shape)

    def generation_steps(self, ordering=0):
        return torch.zeros(self.spec.shape, dtype=torch.int64)

    def fit(self, data, trainer):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        trainer.track(optimizer=optimizer)
        for batch in trainer.batches(data.train, batch_size=100):
            loss = -self.log_prob(batch.images).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Raster(Table):
    """Independent entries, drawn one after another, which is declared."""

    def generation_steps(self, ordering=0):
        return torch.arange(self.spec.num_dimensions).view(self.spec.shape)

    def dependence(self, ordering=0):
        return torch.zeros(self.spec.num_dimensions, self.spec.num_dimensions, dtype=torch.bool)


class Counting(Table):
    """Counts the steps that it is fitted in."""

    steps = 0

    def fit(self, data, trainer):
        super().fit(data, trainer)
        self.steps = trainer.step


class Looping(Table):
    """Takes many small steps to the same end."""

    def __init__(self, turns):
        super().__init__(harness.ImageSpec(1, 2, 2, 2))
        self.turns = turns

    def conditional_logits(self, images, ordering=0):
        scale = torch.ones(())
        for _ in range(self.turns):
            scale = scale * 1.0
        return scale * super().conditional_logits(images)


class Doubled(Table):
    """Twice the log-probability."""

    def log_prob(self, images):
        return 2 * super().log_prob(images)


class Crashing(Table):
    """Cannot be scored."""

    def log_prob(self, images):
        raise KeyError("weights of layer 3")


class Batches(Table):
    """Cannot be scored but for a few images at a time."""

    def log_prob(self, images):
        if len(images) > 4:
            raise KeyError(f"weights of {len(images)} images")
        return super().log_prob(images)


class Nearly(Table):
    """All probabilities are too large by a ten-millionth."""

    def log_prob(self, images):
        return super().log_prob(images) + 1e-7


class NoBound(harness.VariationalBound):
    """Uniform images; the bound of the black one is not a number."""

    def elbo(self, images):
        uniform = -self.spec.num_dimensions * math.log(self.spec.levels)
        black = images.flatten(1).amax(1) == 0
        return torch.full((len(images),), uniform, dtype=self.dtype).masked_fill(black, math.nan)

    def sample(self, num_samples):
        return torch.randint(self.spec.levels, (num_samples, *self.spec.shape), dtype=torch.uint8)

    def fit(self, data, trainer):
        pass


class OneSize(Table):
    """Takes 28x28 binary images alone."""

    def __init__(self, spec):
        if spec.shape != (1, 28, 28) or spec.levels != 2:
            raise harness.Unsupported("28x28 binary images alone")
        super().__init__(spec)


class OneSizeDoubled(OneSize):
    """The same, and twice the log-probability."""

    def log_prob(self, images):
        return 1.001 * super().log_prob(images)


def subject(model):
    return harness.Subject(model.__name__.lower(), model)


def test_a_right_model_passes_every_check_that_applies():
    report = audit(subject(Table))
    assert report.standing == "passed"
    assert report.symbol == "✓"
    assert not report.failed
    assert report.capability == "Autoregressive"
    assert {result.check for result in report.checks if result.verdict == "pass"} >= {
        "contract", "normalisation", "conditionals", "sampling", "full-size", "dependence", "unchanged", "neighbours",
        "reproducible", "checkpoint", "known-entropy",
    }  # fmt: skip


def without_times(report):
    checks = tuple(result.model_copy(update={"seconds": 0.0}) for result in report.checks)
    return report.model_copy(update={"checks": checks, "seconds": 0.0})


def test_the_same_seed_gives_the_same_report_and_another_seed_another():
    some = ["normalisation", "sampling", "dependence", "neighbours", "known-entropy"]
    first, again, other = (without_times(audit(subject(Table), seed=seed, only=some)) for seed in (3, 3, 4))
    assert first.model_dump_json() == again.model_dump_json()
    assert first.result("sampling").statistic != other.result("sampling").statistic


def test_a_check_gives_the_same_alone_as_among_others():
    whole = audit(subject(Table), only=["contract", "sampling", "checkpoint"])
    alone = audit(subject(Table), only=["sampling"])
    assert without_times(alone).checks == (without_times(whole).result("sampling"),)


def test_an_audit_disturbs_no_random_numbers():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    audit(subject(Table), only=["sampling", "reproducible"])
    assert torch.equal(torch.rand(3), expected)


def test_a_verdict_says_what_where_how_much_and_what_is_likely_wrong():
    [result] = audit(subject(Doubled), only=["normalisation"]).checks
    assert result.verdict == "fail"
    assert result.where == "2x2, 3 channels, 2 levels, random weights"
    assert result.statistic > result.threshold
    assert "sum to" in result.meaning
    assert "wrong base of the logarithm" in result.meaning
    assert result.smallest_defect == "1e-09 of mass"
    assert result.failures


def test_what_a_models_code_raises_is_a_verdict():
    report = audit(subject(Crashing))
    assert report.standing == "failed"
    assert report.result("contract").verdict == "fail"
    assert "weights of layer 3" in report.result("contract").meaning


def test_an_exception_that_several_checks_meet_is_told_by_the_first():
    some = ["contract", "normalisation", "dependence", "neighbours"]
    report = audit(subject(Batches), only=some)
    assert [result.check for result in report.failed] == ["contract"]
    assert "raises KeyError: 'weights of 5 images'" in report.result("contract").meaning
    for check in ("normalisation", "neighbours"):
        assert report.result(check).verdict == "not applicable"
        assert report.result(check).meaning == "not decided: see contract"
    assert report.result("dependence").verdict == "pass"
    assert audit(subject(Batches), only=["neighbours"]).result("neighbours").verdict == "fail"


def verdict_of(*trials):
    return _run("mine", lambda laboratory: iter(trials), Laboratory(subject(Table)), 1e-3, {})


@pytest.mark.parametrize("deviation", [math.nan, math.inf, 3.0])
def test_the_headline_is_of_the_trial_that_failed_the_most(deviation):
    passed = Trial.exact("here", "first", math.inf, tolerance=math.inf, meaning="wrong words")
    slight = Trial.exact("there", "second", 2.0, tolerance=1.0, meaning="slightly wrong")
    worst = Trial.exact("elsewhere", "third", deviation, tolerance=1.0, meaning="third: wrong")
    result = verdict_of(passed, slight, worst)
    assert (result.verdict, result.where) == ("fail", "elsewhere")
    assert result.meaning.startswith("third: ")
    assert [failure.split(":")[0] for failure in result.failures] == ["elsewhere", "there"]


def test_a_sum_that_is_nearly_one_is_printed_with_the_digits_that_tell_it_from_one():
    [result] = audit(subject(Nearly), only=["normalisation"]).checks
    assert "sum to 1.0000001, not to 1" in result.meaning


def test_what_is_not_finite_is_said_in_place_of_what_a_number_would_mean():
    report = audit(subject(NoBound), only=["normalisation", "bounds"])
    for result in report.failed:
        assert result.statistic is None
        assert "a score or a weight there is infinite or NaN" in result.meaning
        assert "nan" not in result.smallest_defect
    assert "log frequency minus the bound, over own samples: nan ± nan" in report.result("bounds").meaning


def test_a_model_that_refuses_every_space_is_not_failed_but_cannot_be_checked():
    def refuse(spec):
        raise harness.Unsupported("64x64 images alone")

    report = audit(harness.Subject("refuses", refuse))
    assert not report.failed
    assert report.standing == "not enumerated"
    assert "64x64 images alone" in report.result("contract").meaning


def test_a_model_that_takes_no_small_space_is_not_enumerated_but_checked_at_its_size():
    report = audit(subject(OneSize))
    assert report.standing == "not enumerated"
    assert {result.check for result in report.checks if result.verdict == "pass"} >= {
        "contract", "normalisation", "conditionals", "full-size", "dependence", "checkpoint",
    }  # fmt: skip


def test_a_defect_of_a_thousandth_is_seen_at_full_size_by_the_models_own_samples():
    result = audit(subject(OneSizeDoubled), only=["normalisation"]).result("normalisation")
    assert result.verdict == "fail"
    assert "own samples" in result.where


def test_a_check_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"there is no check 'sums' \(there are: bounds, checkpoint"):
        audit(subject(Table), only=["sums"])


def test_the_error_rate_is_shared_by_all_checks_and_their_trials():
    report = audit(subject(Table), only=["sampling"])
    [result] = report.checks
    random_trials = round(ERROR_RATE / len(CHECKS) / result.threshold)
    assert 1 <= random_trials <= result.num_trials


def test_hyperparameters_are_in_the_report():
    given = harness.Subject("table", lambda spec: Table(spec, scale=2.0), hyperparameters={"scale": 2.0})
    assert audit(given, only=["contract"]).hyperparameters == {"scale": 2.0}


def test_reports_go_to_json_and_back():
    report = audit(subject(Doubled), only=["normalisation", "conditionals", "labels"])
    assert harness.AuditReport.model_validate_json(report.model_dump_json()) == report


def test_specimens_of_one_seed_are_the_same_whatever_was_made_before():
    def weights(first):
        laboratory = Laboratory(subject(Table), seed=1)
        if first:
            laboratory.specimen(laboratory.small[1], "fitted")
        return laboratory.specimen(laboratory.small[0], "random").model.logits

    assert torch.equal(weights(first=False), weights(first=True))


def test_positive_weights_are_positive_and_random_ones_keep_the_size_of_signals():
    model = Table(harness.ImageSpec(1, 3, 3, 2))
    randomise(model, gain=1.0, seed=0, positive=True)
    assert bool((model.logits > 0).all())
    layer = nn.Linear(400, 300)
    nn.init.zeros_(layer.weight)
    randomise(layer, gain=1.0, seed=0)
    assert float(layer.weight.detach().std()) == pytest.approx(1 / math.sqrt(400), rel=0.02)


class Logistic(harness.Autoregressive):
    """Logistic regressions on the past; on wide images, ``hidden`` says which of it they do not see."""

    hidden = "nothing"

    def __init__(self, spec):
        super().__init__(spec)
        if spec.levels != 2 or spec.channels != 1:
            raise harness.Unsupported("grey binary images")
        size = spec.num_dimensions
        past = torch.ones(size, size).tril(-1)
        row, column = torch.arange(size) // spec.width, torch.arange(size) % spec.width
        if size > 64 and self.hidden == "a few":
            past *= torch.rand(size, size, generator=torch.Generator().manual_seed(0)) > 0.02
        if size > 64 and self.hidden == "a blind spot":
            past *= 1 - ((row[:, None] == row[None] + 1) & (column[None] > column[:, None] + 12)).float()
        self.register_buffer("past", past)
        self.weight = nn.Parameter(torch.zeros(size, size))

    def conditional_logits(self, images, ordering=0):
        ones = images.flatten(1).to(self.dtype) @ (self.weight * self.past).T
        return torch.stack([torch.zeros_like(ones), ones], 1).view(len(images), 2, *self.spec.shape)

    def fit(self, data, trainer):
        pass


class FewUnseen(Logistic):
    """Random connections are missing."""

    hidden = "a few"


class BlindSpot(Logistic):
    """A few pixels above and to the right are missing: a smaller share than of the random ones."""

    hidden = "a blind spot"


def test_a_few_scattered_entries_unseen_on_a_wide_image_are_a_note():
    [result] = audit(subject(FewUnseen), only=["dependence"], budget=5).checks
    assert result.verdict == "pass"
    assert any("of the past is never seen" in note for note in result.notes)


def test_a_blind_spot_is_a_failure_however_small():
    [result] = audit(subject(BlindSpot), only=["dependence"], budget=5).checks
    assert result.verdict == "fail"
    assert "a blind spot above and to the right" in result.meaning
    assert float(result.meaning.split("%")[0]) < 2


class LabelledTable(harness.ExactLikelihood, harness.ClassConditional):
    """A table a label; ``given`` labels, or all of them."""

    given = None
    unconditional = range(10)

    def __init__(self, spec):
        super().__init__(spec)
        if spec.num_classes is None:
            raise harness.Unsupported("needs labels")
        self.unconditional = self.unconditional[: spec.num_classes]
        self.logits = nn.Parameter(torch.zeros(spec.num_classes, spec.levels, *spec.shape))

    def condition_on(self, labels):
        view = type(self).__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.given = labels
        return view

    def _scores(self, images):
        table = self.logits[list(self.unconditional)].log_softmax(1)
        values = images.long()[:, None, None].expand(-1, len(table), 1, *self.spec.shape)
        return table.expand(len(images), *table.shape).gather(2, values).flatten(2).sum(2)

    def log_prob(self, images):
        if self.given is not None:
            table = self.logits.log_softmax(1)[self.given]
            return table.gather(1, images.long()[:, None]).flatten(1).sum(1)
        return self._scores(images).logsumexp(1) - math.log(len(self.unconditional))

    def sample(self, num_samples):
        labels = torch.tensor(self.unconditional)[torch.randint(len(self.unconditional), (num_samples,))]
        probs = self.logits.softmax(1)[labels if self.given is None else self.given]
        flat = probs.movedim(1, -1).reshape(-1, self.spec.levels)
        return torch.multinomial(flat, 1).view(num_samples, *self.spec.shape).to(torch.uint8)

    def fit(self, data, trainer):
        pass


class RanksOneLabel(LabelledTable):
    """Scores log p(x | y = 0) as log p(x)."""

    unconditional = (0,)


def test_labels_that_are_marginalised_pass_and_one_labels_score_in_their_place_is_named():
    assert audit(subject(LabelledTable), only=["labels", "sampling", "normalisation"]).standing == "passed"
    [result] = audit(subject(RanksOneLabel), only=["labels"]).checks
    assert result.verdict == "fail"
    assert "log p(x | y) is ranked as log p(x)" in result.meaning


def test_an_audit_says_which_check_it_makes_before_it_makes_it(caplog):
    with caplog.at_level(logging.INFO, "harness.progress"):
        audit(subject(Table), only=["contract", "prior"])
    assert caplog.messages == ["contract, check 1 of 2", "prior, check 2 of 2"]


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_says_what_it_claims_how_what_it_fails_wrongly_and_what_it_cannot_see(check):
    parts = explain(check)
    assert list(parts) == ["claims", "tests", "fails a right model", "cannot see"]
    assert all(words.endswith(".") for words in parts.values())


def test_a_smaller_budget_looks_at_less_and_says_so():
    subject_, only = subject(Raster), ["dependence"]
    whole, part = (audit(subject_, only=only, budget=seconds).result("dependence") for seconds in (60, 1e-4))
    assert part.num_trials < whole.num_trials
    assert (any(NOT_REACHED in note for note in part.notes), whole.verdict, part.verdict) == (True, "pass", "pass")
    with pytest.raises(ValueError, match="more than 0 seconds"):
        audit(subject_, budget=0)


def test_a_short_fit_takes_fewer_steps_where_they_are_expensive():
    def steps(budget):
        laboratory = Laboratory(subject(Counting), budget=budget)
        return laboratory.specimen(laboratory.small[0], "fitted").model.steps

    assert (steps(1e11), steps(1e6)) == (100, 25)


def test_what_a_loop_costs_is_counted_by_its_kernels():
    [once, often] = [Looping(1), Looping(50)]
    costs = [operations(Specimen(it, it.spec, "initial", 0), it.conditional_logits, 10) for it in (once, often)]
    assert costs[1] > 8 * costs[0]


class StepByStep(NoBound):
    """A sample takes so many products of 512 numbers, one after another."""

    def __init__(self, spec, steps):
        super().__init__(spec)
        self.steps = steps

    @property
    def sampling_depth(self):
        return self.steps

    def sample(self, num_samples):
        values, weights = torch.ones(num_samples, 512), torch.eye(512)
        for _ in range(self.steps):
            values = values @ weights
        return values[:, : self.spec.num_dimensions].view(num_samples, *self.spec.shape).to(torch.uint8)


def test_fewer_samples_are_drawn_by_many_steps_and_what_they_cost_is_counted():
    few, many = (
        Specimen(it, it.spec, "initial", 0)
        for it in (StepByStep(harness.ImageSpec(1, 2, 2, 2), 1), StepByStep(harness.ImageSpec(1, 2, 2, 2), 1000))
    )
    assert (affordable_samples(few, "default"), affordable_samples(many, "default")) == (MOST_SAMPLES, FEWEST_SAMPLES)
    assert sampling_cost(few, 10) == 0
    assert sampling_cost(many, 10) == pytest.approx(10 * 1000 * 2 * 512**2, rel=0.2)


class CountsCalls(NoBound):
    """Counts how often its bound is asked for."""

    calls = 0

    def elbo(self, images):
        self.calls += 1
        return torch.zeros(len(images), dtype=self.dtype)


def test_batches_are_compared_by_fewer_draws_of_a_bound_that_is_expensive():
    def calls(budget):
        model = CountsCalls(harness.ImageSpec(1, 2, 2, 2))
        list(_stochastic_scores(Specimen(model, model.spec, "initial", 0, budget=budget)))
        return model.calls

    assert 6 * calls(budget=1.0) < calls(budget=1e11)


@pytest.mark.parametrize("farthest", [1e200, math.inf, math.nan])
def test_latents_whose_squares_overflow_say_nothing_and_break_nothing(farthest):
    specimen = Specimen(model := NoBound(harness.ImageSpec(1, 2, 2, 2)), model.spec, "strong", 0)
    draws = _Draws(farthest * torch.randn(3000, 2), torch.zeros(3000, dtype=torch.float64))
    assert "varies too much" in _continuous(specimen, [draws], "")


class ForgetfulConditionals(MADE, harness.ClassConditional):
    """A mixture over labels by orderings; the conditionals of a view, by which the raster draws, forget its labels."""

    given = None

    def __init__(self, spec):
        super().__init__(spec)
        if spec.num_classes is None:
            raise harness.Unsupported("needs labels")
        self.table = nn.Parameter(torch.randn(spec.num_classes, spec.levels, *spec.shape))
        self.forgets = True

    @property
    def num_orderings(self):
        return self.spec.num_classes if self.given is None else 1

    def condition_on(self, labels):
        view = type(self).__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.given = labels
        return view

    def conditional_logits(self, images, ordering=0):
        labels = torch.full((len(images),), ordering) if self.given is None or self.forgets else self.given
        return super().conditional_logits(images) + self.table[labels]

    def log_prob(self, images):
        if self.given is None:
            return super().log_prob(images)
        logits = super().conditional_logits(images) + self.table[self.given]
        return logits.log_softmax(1).gather(1, images.long().unsqueeze(1)).flatten(1).sum(1)

    def samplers(self):
        return {"own": self.own, "raster": self.raster}

    def own(self, num_samples, *, noise=None, known=None, mask=None, trace=None):
        forgets, self.forgets = self.forgets, False
        try:
            return self.raster(num_samples, noise=noise, known=known, mask=mask, trace=trace)
        finally:
            self.forgets = forgets


class RememberingConditionals(ForgetfulConditionals):
    """The same without the defect."""

    def __init__(self, spec):
        super().__init__(spec)
        self.forgets = False


def test_conditionals_of_a_view_that_forget_its_labels_are_seen_without_drawing_by_them(quick_audits):
    right, wrong = (
        audit(subject(model), only=["labels"]).checks[0] for model in (RememberingConditionals, ForgetfulConditionals)
    )
    assert (right.verdict, right.failures) == ("pass", ())
    assert wrong.verdict == "fail"
    assert "conditional_logits, which 'raster' draws by" in wrong.meaning

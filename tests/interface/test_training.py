"""The trainer: whole epochs, exact budgets, exact resumption, and nothing lost or disturbed on the way."""

from __future__ import annotations

import json
import math
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from harness.interface.dataset import BernoulliSplit, Dataset, Split
from harness.interface.spec import Budget, ImageSpec
from harness.interface.training import Diverged, Interrupted, Trainer, mean_over
from harness.support.checkpoint import load_state

NUM_TRAIN, BATCH, STEPS_AN_EPOCH = 23, 5, 5


def numbered(number, offset=0):
    """Images that differ, labelled by their index."""
    index = torch.arange(number)
    images = torch.stack([index + offset, 255 - index, index % 7, index % 3], dim=1).to(torch.uint8)
    return Split(images.view(number, 1, 2, 2), index)


@pytest.fixture(scope="module")
def data():
    spec = ImageSpec(1, 2, 2, 256, num_classes=NUM_TRAIN)
    return Dataset("numbered", spec, numbered(NUM_TRAIN), numbered(7, 100), numbered(3, 200))


class Toy(nn.Module):
    """A regressor with all that a resumption has to bring back: dropout, running statistics, Adam, a schedule."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Tanh(), nn.Linear(6, 1))
        self.optimizer = self.schedule = self.last = None

    def loss(self, images):
        return self.net(images.flatten(1) / 255).square().sub(1).square().mean()

    def step(self, batch, trainer, optimizer):
        loss = self.loss(batch.images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trainer.log(loss=loss, noise=torch.rand(()))
        self.last = weights_of(self)

    def fit(self, data, trainer):
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        trainer.track(optimizer=self.optimizer, schedule=self.schedule)
        trainer.validate(lambda split: abs(trainer.step - 5) + torch.rand(()).item() / 10, every="1 epoch")
        for batch in trainer.batches(data.train, batch_size=BATCH):
            self.step(batch, trainer, self.optimizer)
            self.schedule.step()


class TwoPhases(Toy):
    """Adam up to the middle of the budget, then a new optimizer on other batches."""

    def fit(self, data, trainer):
        first = torch.optim.Adam(self.parameters(), lr=0.05)
        trainer.track(first=first)
        for batch in trainer.batches(data.train, batch_size=BATCH, until=0.5):
            self.step(batch, trainer, first)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        trainer.track(second=self.optimizer)
        for batch in trainer.batches(data.train, batch_size=BATCH):
            self.step(batch, trainer, self.optimizer)


class Killed(BaseException):
    """The process is gone."""


def weights_of(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(left, right):
    """Bit by bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return left == right


def fit(kind, data, folder, *, budget="3 epochs", stop_at=None, kill_at=None, seed=0, **options):
    """Trains a new model in what could be a new process; ends at a step where it is told to."""
    torch.manual_seed(seed)
    model = kind()
    trainer = None

    def should_stop():
        if trainer.step == kill_at:
            raise Killed
        return trainer.step == stop_at

    trainer = Trainer(
        model, data, budget=Budget.parse(budget), seed=7, folder=folder, should_stop=should_stop, **options
    )
    try:
        model.fit(data, trainer)
    except (Killed, Interrupted):
        return None
    return model, trainer


def outcome(folder, found):
    """All that an uninterrupted and a resumed training must agree on."""
    model, trainer = found
    summary = trainer.summary()
    return {
        "weights": weights_of(model),
        "last weights": model.last,
        "optimizer": model.optimizer.state_dict(),
        "schedule": model.schedule.state_dict() if model.schedule is not None else None,
        "random numbers": torch.get_rng_state(),
        "curves": (folder / "curves.jsonl").read_text(),
        "summary": (summary.steps, summary.epochs, summary.checkpoint, summary.valid_score, summary.valid_step),
    }


def check_same(left, right):
    for name in left:
        no_step_was_left = name == "last weights" and left[name] is None
        assert no_step_was_left or same(left[name], right[name]), f"{name} differs"


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """Outcomes of trainings that nothing stopped."""
    found = {}
    for kind in (Toy, TwoPhases):
        folder = tmp_path_factory.mktemp(kind.__name__)
        found[kind] = outcome(folder, fit(kind, data, folder))
    return found


@pytest.mark.parametrize("kind", [Toy, TwoPhases])
@pytest.mark.parametrize("stop_at", [1, 4, 5, 7, 8, 14, 15])
def test_a_training_that_was_stopped_goes_on_bit_for_bit(data, tmp_path, uninterrupted, kind, stop_at):
    assert fit(kind, data, tmp_path, stop_at=stop_at) is None
    check_same(outcome(tmp_path, fit(kind, data, tmp_path, seed=99)), uninterrupted[kind])


@pytest.mark.parametrize("kind", [Toy, TwoPhases])
@pytest.mark.parametrize("kill_at", [2, 5, 6, 8, 9, 15])
def test_a_training_that_was_killed_goes_on_bit_for_bit(data, tmp_path, uninterrupted, kind, kill_at):
    # killed after the curves of a step are written, and before its state is saved
    assert fit(kind, data, tmp_path, kill_at=kill_at, checkpoint_seconds=0) is None
    check_same(outcome(tmp_path, fit(kind, data, tmp_path, seed=99)), uninterrupted[kind])


def test_a_training_that_was_killed_before_it_was_saved_starts_afresh(data, tmp_path, uninterrupted):
    assert fit(Toy, data, tmp_path, kill_at=9) is None
    assert not (tmp_path / "training.safetensors").exists()
    check_same(outcome(tmp_path, fit(Toy, data, tmp_path)), uninterrupted[Toy])


def test_a_training_that_is_stopped_again_and_again_is_the_uninterrupted_one(data, tmp_path, uninterrupted):
    for stop_at in range(1, 15):
        assert fit(Toy, data, tmp_path, stop_at=stop_at, seed=stop_at if stop_at > 1 else 0) is None
    check_same(outcome(tmp_path, fit(Toy, data, tmp_path, seed=99)), uninterrupted[Toy])


def test_curves_that_average_over_steps_go_on_in_the_middle_of_an_average(data, tmp_path):
    class Noise(nn.Linear):
        def fit(self, data, trainer):
            for _ in trainer.batches(data.train, batch_size=BATCH):
                trainer.log(loss=torch.rand(()))

    texts = []
    for name, stops in (("whole", [None]), ("halves", [751, None])):
        (tmp_path / name).mkdir()
        for stop_at in stops:
            fit(lambda: Noise(1, 1), data, tmp_path / name, budget="1500 steps", stop_at=stop_at)
        texts.append((tmp_path / name / "curves.jsonl").read_text())
    assert texts[0] == texts[1]
    assert [json.loads(line)["step"] for line in texts[0].splitlines()] == list(range(3, 1501, 3))


def test_curves_hold_each_steps_loss_and_each_validation_once(data, tmp_path):
    fit(Toy, data, tmp_path, kill_at=9, checkpoint_seconds=0)
    fit(Toy, data, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 16))
    assert [line["step"] for line in lines if "valid" in line] == [5, 10, 15]


def test_a_line_that_a_crash_cut_off_is_dropped(data, tmp_path, uninterrupted):
    fit(Toy, data, tmp_path, stop_at=7)
    with (tmp_path / "curves.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    check_same(outcome(tmp_path, fit(Toy, data, tmp_path)), uninterrupted[Toy])


def test_a_stopped_training_says_so_and_has_saved_that_step(data, tmp_path):
    model = Toy()
    trainer = Trainer(model, data, budget=Budget.parse("3 epochs"), folder=tmp_path, should_stop=lambda: True)
    with pytest.raises(Interrupted, match="stopped at step 1 of 15"):
        model.fit(data, trainer)
    state = load_state(tmp_path / "training.safetensors")
    assert state["step"] == 1
    assert same(state["model"], weights_of(model))


def test_time_spent_adds_up_over_resumptions(data, tmp_path):
    fit(Toy, data, tmp_path, stop_at=7)
    before = load_state(tmp_path / "training.safetensors")["seconds"]
    assert before > 0
    _, trainer = fit(Toy, data, tmp_path)
    assert trainer.summary().seconds > before


def test_resuming_a_fit_that_tracks_other_names_is_refused_by_them(data, tmp_path):
    class Renamed(TwoPhases):
        def fit(self, data, trainer):
            trainer.track(renamed=torch.optim.Adam(self.parameters()))
            next(iter(trainer.batches(data.train, batch_size=BATCH)))

    fit(TwoPhases, data, tmp_path, stop_at=2)
    with pytest.raises(ValueError, match=r"saved state tracks \['first'\], fit now tracks \['renamed'\]"):
        fit(Renamed, data, tmp_path)


def test_everything_that_is_kept_is_safetensors_or_json_and_nothing_is_pickled(data, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("pickled")

    for module, name in [(torch, "save"), (torch, "load"), (pickle, "dumps"), (pickle, "dump"), (pickle, "loads")]:
        monkeypatch.setattr(module, name, refuse)
    fit(Toy, data, tmp_path, stop_at=7)
    fit(Toy, data, tmp_path, stop_at=9)
    files = {file.name for file in tmp_path.iterdir() if file.is_file()}
    assert files == {"training.safetensors", "curves.jsonl"}
    assert load_file(tmp_path / "training.safetensors")


def test_without_a_folder_nothing_is_kept(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Toy()
    trainer = Trainer(model, data, budget=Budget.parse("1 epoch"), checkpoint_seconds=0)
    model.fit(data, trainer)
    assert list(tmp_path.iterdir()) == []


def loop(data, budget, *, split=None, batch_size=BATCH, seed=0, until=1.0):
    """All batches of one loop, and the trainer."""
    trainer = Trainer(nn.Linear(1, 1), data, budget=Budget.parse(budget), seed=seed)
    found = list(trainer.batches(data.train if split is None else split, batch_size=batch_size, until=until))
    return found, trainer


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 100])
def test_every_image_comes_exactly_once_an_epoch(data, batch_size):
    found, _ = loop(data, "3 epochs", batch_size=batch_size)
    steps = math.ceil(NUM_TRAIN / min(batch_size, NUM_TRAIN))
    assert len(found) == 3 * steps
    for epoch in range(3):
        batches = found[epoch * steps : (epoch + 1) * steps]
        assert sorted(torch.cat([batch.labels for batch in batches]).tolist()) == list(range(NUM_TRAIN))
        assert [len(batch) for batch in batches[:-1]] == [min(batch_size, NUM_TRAIN)] * (steps - 1)


def test_images_keep_their_labels(data):
    for batch in loop(data, "1 epoch")[0]:
        assert torch.equal(batch.images, data.train.images[batch.labels])


def test_the_order_is_another_one_each_epoch_and_under_another_seed_and_the_same_under_the_same(data):
    orders = []
    for seed in (0, 0, 1):
        labels = torch.cat([batch.labels for batch in loop(data, "2 epochs", seed=seed)[0]]).tolist()
        orders.append((labels[:NUM_TRAIN], labels[NUM_TRAIN:]))
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in (*orders[0], *orders[2], range(NUM_TRAIN))}) == 5


def test_random_data_are_redrawn_each_epoch(data):
    split = BernoulliSplit(data.train.images, data.train.labels, seed=3)
    found, _ = loop(data, "3 epochs", split=split)
    for step, batch in enumerate(found):
        assert torch.equal(batch.images, split.draw(step // STEPS_AN_EPOCH).images[batch.labels])
    assert not torch.equal(split.draw(0).images, split.draw(1).images)


@pytest.mark.parametrize(
    ("budget", "steps", "epochs"),
    [("2 epochs", 10, 2.0), ("7 steps", 7, 1.4), ("0.5 epochs", 3, 0.6), ("1 step", 1, 0.2), ("0.01 epochs", 1, 0.2)],
)
def test_the_budget_is_spent_to_the_step(data, budget, steps, epochs):
    found, trainer = loop(data, budget)
    assert len(found) == steps
    summary = trainer.summary()
    assert (summary.steps, summary.epochs, summary.checkpoint) == (steps, epochs, "last")


def test_a_budget_in_minutes_has_to_become_steps_first(data):
    with pytest.raises(ValueError, match="minutes has to be calibrated into steps"):
        loop(data, "1 minute")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_without_images_is_refused(data, batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, not {batch_size}"):
        loop(data, "1 epoch", batch_size=batch_size)


def test_two_loops_share_the_budget_and_do_not_repeat_each_others_order(data):
    trainer = Trainer(nn.Linear(1, 1), data, budget=Budget.parse("2 epochs"))
    first = list(trainer.batches(data.train, batch_size=BATCH, until=0.5))
    second = list(trainer.batches(data.train, batch_size=BATCH))
    third = list(trainer.batches(data.train, batch_size=BATCH))
    assert (len(first), len(second), len(third)) == (5, 5, 0)
    assert torch.cat([b.labels for b in first]).tolist() != torch.cat([b.labels for b in second]).tolist()


def test_two_loops_of_different_batch_sizes_spend_the_budget_in_epochs(data):
    trainer = Trainer(nn.Linear(1, 1), data, budget=Budget.parse("4 epochs"))
    list(trainer.batches(data.train, batch_size=NUM_TRAIN, until=0.5))
    seen = [trainer.fraction for _ in trainer.batches(data.train, batch_size=BATCH)]
    assert seen[0] == 0.5
    assert trainer.summary().epochs == 4


def test_a_second_loop_of_another_batch_size_goes_on_where_it_was_stopped(data, tmp_path):
    class Growing(Toy):
        def fit(self, data, trainer):
            self.optimizer = torch.optim.Adam(self.parameters())
            trainer.track(optimizer=self.optimizer)
            for batch_size, until in ((BATCH, 0.5), (2 * BATCH, 1.0)):
                for batch in trainer.batches(data.train, batch_size=batch_size, until=until):
                    self.step(batch, trainer, self.optimizer)

    outcomes = []
    for name, stops in (("whole", [None]), ("stopped", [4, 10, None])):
        (tmp_path / name).mkdir()
        for stop_at in stops:
            found = fit(Growing, data, tmp_path / name, stop_at=stop_at)
        outcomes.append(outcome(tmp_path / name, found))
    check_same(*outcomes)


def test_the_fraction_runs_from_zero_by_equal_steps_and_ends_at_one(data):
    trainer = Trainer(nn.Linear(1, 1), data, budget=Budget.parse("8 steps"))
    assert trainer.fraction == 0
    seen = [trainer.fraction for _ in trainer.batches(data.train, batch_size=BATCH, until=0.25)]
    seen += [trainer.fraction for _ in trainer.batches(data.train, batch_size=BATCH)]
    assert seen == [step / 8 for step in range(8)]
    assert trainer.fraction == 1


class Validating(Toy):
    """Validates by a scripted list of scores, one every second step."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.seen = scores, []

    def fit(self, data, trainer):
        def score(split):
            value = self.scores[len(self.seen)]
            self.seen.append((trainer.step, self.training, torch.rand(3).tolist(), weights_of(self), split))
            self.loss(split.images)
            return value

        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        if self.scores:
            trainer.validate(score, every="2 steps")
        for batch in trainer.batches(data.train, batch_size=BATCH):
            assert self.training
            self.step(batch, trainer, self.optimizer)


def validated(data, scores, budget="6 steps"):
    torch.manual_seed(0)
    model = Validating(scores)
    trainer = Trainer(model, data, budget=Budget.parse(budget))
    model.fit(data, trainer)
    return model, trainer


def test_validation_does_not_disturb_the_training(data):
    without, _ = validated(data, [])
    after_without = torch.get_rng_state()
    model, _ = validated(data, [3.0, 2.0, 1.0])
    assert same(weights_of(model), weights_of(without))
    assert same(model.optimizer.state_dict(), without.optimizer.state_dict())
    assert torch.equal(torch.get_rng_state(), after_without)


def test_validation_sees_the_validation_split_in_evaluation_mode_under_one_seed(data):
    model, _ = validated(data, [3.0, 2.0, 1.0])
    assert [step for step, *_ in model.seen] == [2, 4, 6]
    for _, training, numbers, _, split in model.seen:
        assert not training
        assert numbers == model.seen[0][2]
        assert torch.equal(split.images, data.valid.images)


@pytest.mark.parametrize(("scores", "best"), [([3.0, 1.0, 2.0], 1), ([1.0, 1.0, 1.0], 0), ([3.0, 2.0, 1.0], 2)])
def test_the_weights_of_the_first_best_validation_are_kept(data, scores, best):
    model, trainer = validated(data, scores)
    assert same(weights_of(model), model.seen[best][3])
    summary = trainer.summary()
    assert (summary.checkpoint, summary.valid_score, summary.valid_step) == ("best-on-valid", min(scores), 2 * best + 2)


def test_a_fit_that_stops_early_by_itself_keeps_the_best_weights_as_its_summary_says(data):
    model = nn.Linear(1, 1)
    trainer = Trainer(model, data, budget=Budget.parse("9 steps"))
    trainer.validate(lambda split: float(trainer.step), every="2 steps")
    kept = []
    for _ in trainer.batches(data.train, batch_size=BATCH):
        with torch.no_grad():
            model.weight.add_(1)
        kept.append(weights_of(model))
        if trainer.step == 5:
            break
    assert (trainer.summary().checkpoint, trainer.summary().valid_step) == ("best-on-valid", 2)
    assert same(weights_of(model), kept[1])


def test_the_last_step_is_validated_although_it_is_not_on_the_interval(data):
    assert [step for step, *_ in validated(data, [3.0, 2.0, 1.0], budget="5 steps")[0].seen] == [2, 4, 5]


def test_validating_by_minutes_is_refused(data):
    trainer = Trainer(nn.Linear(1, 1), data, budget=Budget.parse("1 epoch"))
    with pytest.raises(ValueError, match="every='1 minute': validate by epochs or steps"):
        trainer.validate(lambda split: 0.0, every="1 minute")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_validation_score_that_is_not_finite_ends_the_training(data, bad):
    with pytest.raises(Diverged, match=f"the validation score is {bad} at step 4"):
        validated(data, [1.0, bad, 0.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_before_it_is_saved(data, tmp_path, bad):
    class Diverging(Toy):
        def fit(self, data, trainer):
            trainer.track(optimizer=torch.optim.Adam(self.parameters()))
            for _ in trainer.batches(data.train, batch_size=BATCH):
                trainer.log(loss=bad if trainer.step == 3 else 1.0)

    with pytest.raises(Diverged, match=f"the loss is {bad} near step 4"):
        fit(Diverging, data, tmp_path, checkpoint_seconds=0)
    assert load_state(tmp_path / "training.safetensors")["step"] == 3


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_the_forward_pass_is_cast_for_bfloat16_alone(data, precision, dtype):
    trainer = Trainer(nn.Linear(1, 1), data, budget=Budget.parse("1 epoch"), precision=precision)
    with trainer.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("batch_size", [1, 3, 7, 500])
def test_a_mean_over_a_split_weighs_every_image_of_every_draw_alike(data, batch_size):
    def per_image(images):
        return images.flatten(1).float().sum(1) ** 2

    expected = per_image(data.valid.images).double().mean().item()
    assert mean_over(data.valid, per_image, batch_size=batch_size) == pytest.approx(expected, rel=1e-12)
    random = BernoulliSplit(data.valid.images, num_draws=3, seed=1)
    expected = torch.cat([per_image(random.draw(draw).images) for draw in range(3)]).double().mean().item()
    assert mean_over(random, per_image, batch_size=batch_size) == pytest.approx(expected, rel=1e-12)

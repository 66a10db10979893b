"""Pictures of a model's first samples, none of them chosen: in a grid, and above the nearest training images."""

import torch
from PIL import Image
from torch import Tensor

from harness import ClassConditional, Dataset, Evaluation, ImageSpec, ShownModel, image_grid
from harness.builtin.figures.plane import draw_plane

NUM_SAMPLES, COLUMNS, IN_STRIP = 64, 8, 10
_TEST_IMAGES, _SIDE, _CHUNK = 256, 56, 4096


def draw_samples(shown: ShownModel | Dataset) -> Image.Image:
    """Draws 8 x 8 samples, or real test images of a dataset; small images are magnified.

    A class-conditional model's grid has a row of 8 samples for each class instead. Samples that are all the same are
    ``DegenerateSamples``. Images of two entries are points of the plane: of them it draws a histogram.
    """
    if _spec_of(shown).num_dimensions == 2:
        return draw_plane(shown)
    images, labels = _first_images(shown)
    return _picture(images, shown, COLUMNS, f"sorted by class, {COLUMNS} samples of each" if len(labels) else "")


def draw_nearest(shown: ShownModel | Dataset) -> Image.Image | None:
    """Draws the first 10 images of ``draw_samples`` above the nearest training image of each, and says how near.

    Of a class-conditional model they are sorted by class, equally many of each, or of 10 classes if there are more.
    None for images of two entries, which nothing is seen of.
    """
    if _spec_of(shown).num_dimensions == 2:
        return None
    return draw_strip(shown, *_first_images(shown))


def draw_strip(shown: ShownModel | Dataset, images: Tensor, labels: Tensor) -> Image.Image:
    """Draws ``draw_nearest`` of images that are drawn already, (N, C, H, W) uint8; ``labels`` (N,), or (0,) without."""
    data = shown if isinstance(shown, Dataset) else shown.data
    training, test = data.train.draw(0).images, data.test.draw(0).images
    index, distances = nearest(images, training)
    place = _spread(IN_STRIP, len(images)) if len(labels) else torch.arange(min(IN_STRIP, len(images)))
    order = f"the first {len(place)}"
    if len(labels):
        order = f"{len(place)} samples sorted by class, {labels[place[0]]} to {labels[place[-1]]}"
    some = test[_spread(_TEST_IMAGES, len(test))]  # of the whole split, which may be sorted
    found = {f"{len(images)} samples": distances} if isinstance(shown, ShownModel) else {}
    found[f"{len(some)} test images"] = nearest(some, training)[1]
    means = (f"{whose} are {float(each.mean()) / (data.spec.levels - 1):.3g}" for whose, each in found.items())
    words = f"{order}; on average {', '.join(means)} from the nearest training image"
    return _picture(torch.cat([images[place], training[index[place]]]), shown, len(place), words)


def nearest(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the nearest training image of each image, by index, and how far it is, in levels: (N,) int64, float64.

    Both are (N, C, H, W) uint8. The distance is Euclidean, and exact, as the squares are whole numbers; of images that
    are equally near it is the first.
    """
    rows = images.flatten(1).double()
    best, index = torch.full((len(rows),), torch.inf, dtype=torch.float64), torch.zeros(len(rows), dtype=torch.int64)
    for start in range(0, len(training), _CHUNK):
        chunk = training[start : start + _CHUNK].flatten(1).double()
        found, place = (chunk.square().sum(1) - 2 * rows @ chunk.T).min(1)  # less the square of the image
        index = torch.where(found < best, start + place, index)
        best = torch.minimum(found, best)
    return index, (best + rows.square().sum(1)).sqrt()


def _spread(count: int, length: int) -> Tensor:
    """Returns (at most ``count``,) int64: places that are spread evenly over so many."""
    return torch.arange(min(count, length)) * length // min(count, length)


def _first_images(shown: ShownModel | Dataset) -> tuple[Tensor, Tensor]:
    """Returns images, (N, C, H, W) uint8, and the labels that they were drawn by, (N,) int64, or (0,) without."""
    none = torch.empty(0, dtype=torch.int64)
    if isinstance(shown, Dataset):
        return shown.test.draw(0).images[:NUM_SAMPLES], none
    classes = shown.data.spec.num_classes
    if isinstance(shown.model, ClassConditional) and classes:
        labels = torch.arange(classes).repeat_interleave(COLUMNS)
        return shown.model.condition_on(labels).sample(len(labels)), labels
    return Evaluation(shown.model, shown.data, seed=shown.seed).samples(NUM_SAMPLES), none


def _spec_of(shown: ShownModel | Dataset) -> ImageSpec:
    return (shown if isinstance(shown, Dataset) else shown.data).spec


def _picture(images: Tensor, shown: ShownModel | Dataset, columns: int, words: str) -> Image.Image:
    spec = _spec_of(shown)
    picture = image_grid(images, spec, columns=columns, gap=2, scale=max(1, _SIDE // max(spec.height, spec.width)))
    picture.info |= {"Description": words} if words else {}
    return picture

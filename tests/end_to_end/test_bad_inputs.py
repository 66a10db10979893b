"""A table of what users get wrong: each mistake is one line on standard error that says what would be right.

The exit status is not 0, nothing is trained, and no traceback is shown. The words of validators, types and system
calls stand in none of the lines.
"""

from __future__ import annotations

import json
import re
import zipfile
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

JARGON = re.compile(
    r"Traceback|Errno|Input should|Field required|valid (tuple|string|integer|list)|Sequence\[|Extra inputs|NoneType"
    r"|ValidationError|tuple\[|object has no|pydantic|unexpected keyword"
)
MODEL = '[[models]]\nname = "uniform"\n'

# --- suites: what replaces a key of a right one, or the whole text, and what is said ---

SUITES = {
    "title-number": ("title = 3", "title has to be text"),
    "title-empty": ('title = ""', "title: it must not be empty"),
    "title-twice": ('title = "a"\ntitle = "b"', "cannot be read as TOML"),
    "dataset-unknown": ('datasets = ["digits-binry"]', "did you mean 'digits-binary'"),
    "dataset-empty-name": ('datasets = [""]', "unknown dataset ''"),
    "datasets-text": ('datasets = "digits"', "datasets has to be a list, in brackets, not 'digits'"),
    "datasets-none": ("datasets = []", "datasets has to hold at least 1"),
    "datasets-twice": ('datasets = ["digits", "digits"]', "'digits' stands twice"),
    "dataset-number": ("datasets = [3]", "datasets.0 has to be text"),
    "dataset-broken": ('datasets = ["broken"]', "dataset 'broken'"),
    "dataset-no-folder": ('datasets = ["images:nowhere"]', "nowhere"),
    "dataset-empty-folder": ('datasets = ["images:empty"]', "empty"),
    "dataset-few-images": ('datasets = ["images:few"]', "at least 10 are needed"),
    "dataset-mixed-sizes": ('datasets = ["images:mixed"]', "is 5x4, but 00.png is 4x4 (width x height): write"),
    "dataset-enlarged": ('datasets = ["images:mixed crop=square resize=64"]', "write at most resize=4"),
    "dataset-crop-too-large": ('datasets = ["images:mixed crop=5"]', "write crop=square, or at most crop=4"),
    "dataset-not-square": ('datasets = ["images:mixed resize=2"]', "not square: write crop=square resize=2"),
    "dataset-resize-word": ('datasets = ["images:mixed resize=big"]', "then crop=square or crop=N, then resize=N"),
    "dataset-resize-first": ('datasets = ["images:mixed resize=2 crop=2"]', "then crop=square or crop=N, then resize"),
    "dataset-no-test-split": ('datasets = ["images:parted"]', "expected train and test, perhaps valid"),
    "dataset-unnamed-arrays": ('datasets = ["images:unnamed.npz"]', "holds a, b: name the array of images 'images'"),
    "dataset-numbered-arrays": ('datasets = ["images:numbered.npz"]', "arr_1 (20, 4, 4): without names, expected"),
    "dataset-few-labels": ('datasets = ["images:labels.npz"]', "'y_train' is (3,) int64, expected (20,) integers"),
    "dataset-strange-class": ('datasets = ["images:classes.npz"]', "test has the class 2, of which train has no image"),
    "dataset-no-image": ('datasets = ["images:text"]', "a.png"),
    "dataset-text-file": ('datasets = ["images:ok.toml"]', "neither a folder of images nor an .npz"),
    "dataset-no-zip": ('datasets = ["images:text.npz"]', "text.npz"),
    "dataset-floats": ('datasets = ["images:floats.npz"]', "floats.npz"),
    "dataset-objects": ('datasets = ["images:objects.npz"]', "objects.npz"),
    "dataset-empty-zip": ('datasets = ["images:nothing.npz"]', "nothing.npz"),
    "dataset-no-file": ('datasets = ["my_data.py:stripes"]', "there is no file my_data.py"),
    "dataset-file-alone": ('datasets = ["my_data.py"]', "say what in it is meant"),
    "dataset-data-missing": ('datasets = ["mnist"]', "mnist/train-images-idx3-ubyte"),
    "metric-unknown": ('metrics = ["nl"]', "did you mean 'nll'"),
    "metrics-none": ("metrics = []", "metrics has to hold at least 1"),
    "metrics-text": ('metrics = "nll"', "metrics has to be a list"),
    "metrics-twice": ('metrics = ["nll", "nll"]', "'nll' stands twice"),
    "metric-no-samples": ('metrics = ["iwae-0"]', "unknown metric 'iwae-0'"),
    "metric-no-k": ('metrics = ["iwae-"]', "unknown metric 'iwae-'"),
    "metric-few-samples": ('metrics = ["fid-n3"]', "at least 20 samples are needed"),
    "metric-many-samples": ('metrics = ["fid-n99999999999"]', "at most 10,000,000"),
    "metric-many-weights": ('metrics = ["iwae-1000001"]', "metrics: iwae-1000001: K is from 1 to 1,000,000"),
    "metric-other-dataset": (
        'metrics = ["fid-lenet-mnits"]',
        "metrics: 'fid-lenet-mnits': unknown dataset 'mnits' (did you mean 'mnist'",
    ),
    "metric-two-numbers": ('metrics = ["kid-lenet-n100-n50"]', "unknown dataset 'n100'"),
    "metric-other-data-missing": ('metrics = ["fid-lenet-mnist"]', "mnist/train-images-idx3-ubyte"),
    "metric-network": ('metrics = ["fid-vgg"]', "unknown metric 'fid-vgg'"),
    "metric-key": ('metric = ["nll"]', "unknown key 'metric' (did you mean 'metrics'?)"),
    "metric-capital": ('metrics = ["NLL"]', "unknown metric 'NLL'"),
    "metric-no-statistics": ('metrics = ["fid-pixels-to-nowhere"]', "there is no file nowhere.npz"),
    "metric-no-covariance": (
        'metrics = ["fid-pixels-to-few-samples"]',
        "expected (D,) and (D, D), mean and",
    ),
    "metric-crooked": ('metrics = ["fid-pixels-to-crooked"]', "crooked.npz: 'sigma' is no covariance"),
    "metric-not-finite": ('metrics = ["fid-pixels-to-endless"]', "endless.npz: 'mu' is (2,)"),
    "metric-other-features": ('metrics = ["fid-pixels-to-two"]', "has 64 features of pixels, two, SHA-256"),
    "metric-kid-statistics": ('metrics = ["kid-pixels-to-two"]', "unknown metric 'kid-pixels-to-two'"),
    "seeds-text": ('seeds = ["0"]', "seeds.0 has to be a whole number, not '0'"),
    "seeds-number": ("seeds = 3", "seeds has to be a list, in brackets, not 3"),
    "seeds-none": ("seeds = []", "seeds has to hold at least 1"),
    "seed-negative": ("seeds = [-1]", "seeds.0 has to be at least 0"),
    "seed-large": ("seeds = [4294967296]", "seeds.0 has to be below 2147483648"),
    "seed-fraction": ("seeds = [0.5]", "seeds.0 has to be a whole number"),
    "seed-true": ("seeds = [true]", "seeds.0 has to be a whole number, not True"),
    "seeds-twice": ("seeds = [0, 0]", "0 stands twice"),
    "seed-endless": (f"seeds = [1{'0' * 5000}]", "cannot be read as TOML"),
    "budget-unit": ('budget = "3 weeks"', "'3 weeks' is not of the form '20 epochs'"),
    "budget-number": ("budget = 20", "budget has to be text"),
    "budget-zero": ('budget = "0 epochs"', "must be positive"),
    "budget-half-step": ('budget = "0.5 steps"', "not a whole number of steps"),
    "budget-endless": (f'budget = "{"9" * 400} epochs"', "budget"),
    "budget-empty": ('budget = ""', "budget"),
    "precision": ('precision = "float16"', "precision has to be 'float32', 'bfloat16' or 'float64'"),
    "threads-zero": ("threads = 0", "threads has to be at least 1"),
    "threads-text": ('threads = "2"', "threads has to be a whole number"),
    "threads-many": ("threads = 1000000000", "threads has to be at most 1024"),
    "audit-text": ('audit = "no"', "audit has to be true or false"),
    "time-limit": ('time_limit = "soon"', "time limit 'soon' is not an amount such as '90 s'"),
    "time-limit-number": ("time_limit = 90", "time_limit has to be text"),
    "memory-limit": ('memory_limit = "4"', "memory limit '4' is not an amount such as '512 MiB'"),
    "key-of-the-file": ('name = "x"', "unknown key 'name'"),
    "key-profile": ('profile = "generation"', "is a profile of generation speed"),
    "key-unknown": ("epochs = 3", "unknown key 'epochs'"),
    "date": ("title = 2020-01-01", "title has to be text"),
    "nest": (f"title = {'[' * 5000}", "cannot be read as TOML"),
    "models-none": ("models = []", "models has to hold at least 1"),
    "models-text": ('models = ["uniform"]', "models.0 has to be a table"),
    "models-one-table": ('[models]\nname = "uniform"', "models has to be a list"),
    "model-no-name": ('[[models]]\nlabel = "x"', "models.0.name is missing"),
    "model-unknown": ('[[models]]\nname = "unifrom"', "did you mean 'uniform'"),
    "model-absolute": ('[[models]]\nname = "/tmp/m.py:K"', "write it relative to the suite"),
    "model-no-file": ('[[models]]\nname = "my_model.py:KDE"', "there is no file my_model.py"),
    "model-file-alone": ('[[models]]\nname = "code.py"', "say what in it is meant"),
    "model-no-attribute": ('[[models]]\nname = "code.py:Modle"', "code.py has no 'Modle'"),
    "model-no-model": ('[[models]]\nname = "code.py:THREE"', "is not a subclass of harness.Model"),
    "model-no-import": ('[[models]]\nname = "torn.py:K"', "torn.py cannot be imported"),
    "model-no-module": ('[[models]]\nname = "no_such_package.m:K"', "cannot be imported"),
    "model-key": (f'{MODEL}labels = "x"', "unknown key 'models.0.labels' (did you mean 'label'?)"),
    "samples-nowhere": ('[[models]]\nname = "samples:nowhere"', "nowhere does not exist: give a folder of images or"),
    "samples-empty": ('[[models]]\nname = "samples:empty"', "empty holds no image files"),
    "samples-broken": ('[[models]]\nname = "samples:text"', "a.png is not an image"),
    "samples-text-file": ('[[models]]\nname = "samples:ok.toml"', "ok.toml is not a readable .npz"),
    "samples-mixed": ('[[models]]\nname = "samples:mixed"', "is 5x4"),
    "samples-shape": ('[[models]]\nname = "samples:few"', "images of few are (1, 4, 4), expected (1, 8, 8)"),
    "samples-levels": (
        '[[models]]\nname = "samples:few-samples.npz"',
        "npz holds 7 of 0 to 255, none of 2 levels",
    ),
    "samples-channels": ('[[models]]\nname = "samples:colour.npz"', "images of colour.npz are (3, 8, 8)"),
    "samples-few": (
        'metrics = ["fid-pixels"]\n[[models]]\nname = "samples:binary.npz"',
        "samples:binary.npz: fid-pixels takes 10,000 samples, there are 30: name -n30",
    ),
    "samples-twice": (
        '[[models]]\nname = "samples:binary.npz"\n[[models]]\nname = "samples:./binary.npz as b"',
        "'samples:binary.npz' and 'samples:./binary.npz as b' are the same images",
    ),
    "samples-one-name": (
        '[[models]]\nname = "samples:x/a"\nlabel = "1"\n[[models]]\nname = "samples:y/a"',
        "two models are called 'samples:a'; name one, such as 'samples:x/a as NAME'",
    ),
    "samples-hyperparameters": (
        '[[models]]\nname = "samples:binary.npz"\nhyperparameters = {scale = 1}',
        "has no hyperparameter 'scale'",
    ),
    "label-empty": (f'{MODEL}label = ""', "models.0.label: it must not be empty"),
    "label-blank": (f'{MODEL}label = "  "', "models.0.label: it must not be empty"),
    "labels-equal": (f"{MODEL}{MODEL}", "two rows are labelled 'uniform'"),
    "role": (f'{MODEL}role = "baseline"', "role has to be 'model' or 'reference'"),
    "published": (f'{MODEL}published = "made-2hl"', "published.toml beside the suite has no such figure"),
    "row-dataset": (f'{MODEL}datasets = ["mnist"]', "'uniform' names the dataset 'mnist', the suite does not"),
    "row-budget": (f'{MODEL}budget = "many"', "'many' is not of the form '20 epochs'"),
    "hyperparameter-unknown": (f"{MODEL}hyperparameters = {{scale = 1}}", "has no hyperparameter 'scale'"),
    "hyperparameter-text": (
        '[[models]]\nname = "tilted"\nhyperparameters = {learning_rate = "fast"}',
        "learning_rate has to be a number, not 'fast'",
    ),
    "hyperparameter-infinite": (
        '[[models]]\nname = "tilted"\nhyperparameters = {learning_rate = inf}',
        "learning_rate has to be a number, not inf",
    ),
    "hyperparameter-list": (
        '[[models]]\nname = "tilted"\nhyperparameters = {learning_rate = [0.1]}',
        "learning_rate has to be a number, not [0.1]",
    ),
    "hyperparameters-text": (f'{MODEL}hyperparameters = "x"', "hyperparameters has to be a table"),
    "grid-one": ('[[models]]\nname = "tilted"\ngrid = {learning_rate = 0.1}', "learning_rate has to be a list"),
    "grid-none": ('[[models]]\nname = "tilted"\ngrid = {learning_rate = []}', "learning_rate has to hold at least 1"),
    "grid-twice": (
        '[[models]]\nname = "tilted"\ngrid = {learning_rate = [1e-3, 0.001]}',
        "0.001 stands twice in the grid of 'learning_rate'",
    ),
    "grid-and-value": (
        '[[models]]\nname = "tilted"\ngrid = {learning_rate = [1.0]}\nhyperparameters = {learning_rate = 1.0}',
        "'learning_rate' stands in hyperparameters and in grid",
    ),
    "grid-vast": (
        f"{MODEL}grid = {{{', '.join(f'a{index} = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]' for index in range(9))}}}",
        "1,000,000,000 combinations",
    ),
    "grid-no-metric": (
        'metrics = ["parameters-training"]\n[[models]]\nname = "tilted"\ngrid = {learning_rate = [0.1, 0.2]}',
        "a grid needs a quality metric",
    ),
}


def suite_text(change):
    keys = {"title": 'title = "T"', "datasets": 'datasets = ["digits-binary"]', "metrics": 'metrics = ["nll"]'}
    keys["audit"] = "audit = false"
    models = "" if re.search(r"^(models =|\[+models\])", change, re.MULTILINE) else MODEL
    own = change.partition("[[models]]")[0]
    head = [line for key, line in keys.items() if not re.search(rf"^{key} =", own, re.MULTILINE)]
    return "\n".join([*head, change, models])


# --- profiles of generation speed ---

PROFILES = {
    "no-profile": ("", "a profile begins with"),
    "other-profile": ('profile = "training"', "profile has to be 'generation'"),
    "no-models": ('profile = "generation"', "models is missing"),
    "empty-models": ('profile = "generation"\nmodels = []', "models has to hold at least 1"),
    "key": ('profile = "generation"\nbatchsizes = [1]', "unknown key 'batchsizes' (did you mean 'batch_sizes'"),
    "sizes-text": ('profile = "generation"\nsizes = ["8"]', "sizes.0 has to be a whole number, not '8'"),
    "sizes-zero": ('profile = "generation"\nsizes = [0]', "sizes.0 has to be at least 1"),
    "sizes-none": ('profile = "generation"\nsizes = []', "must name at least one"),
    "levels": ('profile = "generation"\nlevels = 1', "levels has to be at least 2"),
    "seconds": ('profile = "generation"\nbudget_seconds = 0', "budget_seconds has to be above 0"),
    "baseline": ('profile = "generation"\nbaseline = "made"', "baseline 'made' is none of the models"),
    "row-empty": ('profile = "generation"\n[[models]]\nlabel = "x"', "name a model by 'name'"),
    "row-unknown": ('profile = "generation"\n[[models]]\nname = "unifrom"', "unknown model 'unifrom'"),
}

# --- options and arguments of the commands ---

COMMANDS = [
    ("run", "Missing argument 'suite'; 'harness run --help'"),
    ("run nowhere", "no suite at nowhere.toml, and none at leaderboards/nowhere.toml"),
    ("run nowhere/else.toml", "no suite at nowhere/else.toml"),
    ("run folder", "no suite at folder.toml"),
    ("run folder.toml", "no suite at folder.toml: it is a folder"),
    ("run a.b.toml", "may hold only letters, digits"),
    ("run binary.toml", "cannot be read as TOML"),
    ("run ok.toml more", "unexpected extra argument"),
    ("run ok.toml --epochs 3", "No such option: --epochs"),
    ("run ok.toml --jobs", "requires an argument"),
    ("run ok.toml --jobs many", "'--jobs': has to be a whole number, not 'many'"),
    ("run ok.toml --jobs -1", "'--jobs': has to be at least 0"),
    ("run ok.toml --only unifrom", "did you mean 'uniform'"),
    ("run ok.toml --seeds x", "write seeds as 0,1,2 or 0-4"),
    ("run ok.toml --seeds 3-1", "is no range"),
    ("run ok.toml --seeds 0-4000000000", "is no range"),
    ("run ok.toml --seeds 0-2000000000", "is no range"),
    ("run ok.toml --device gpu9", "device 'gpu9' is not a device name"),
    ("run ok.toml --executor locl", "did you mean 'local'"),
    ("run ok.toml --time-limit soon", "time limit 'soon'"),
    ("run ok.toml --memory-limit 4", "memory limit '4'"),
    ("run ok.toml --checkpoint none.safetensors", "cannot be read"),
    ("run ok.toml --checkpoint folder", "cannot be read"),
    ("run ok.toml --checkpoint ok.toml", "not a readable safetensors file"),
    ("run ok.toml --set budget", "write MODEL.HYPERPARAMETER=VALUE or KEY=VALUE"),
    ("run ok.toml --set budget=3", "budget has to be text"),
    ("run ok.toml --set budgte=1", "did you mean 'budget'"),
    ("run ok.toml --set tiltd.learning_rate=1", "no model 'tiltd' in the suite"),
    ("run ok.toml --set uniform.scale=1", "has no hyperparameter 'scale'"),
    ("run ok.toml --set seeds=0", "seeds has to be a list, in brackets, not 0"),
    ("run ok.toml --set metrics=[]", "metrics has to hold at least 1"),
    ("run ok.toml --set threads=.5", "threads has to be a whole number, not 0.5"),
    ("run ok.toml --set title=", "title: it must not be empty"),
    ("--data ok.toml run ok.toml", "ok.toml"),
    ("--artifacts ok.toml run ok.toml --dry-run", "ok.toml"),
    ("--store nonsense status", ": a store is at sqlite:///FILE or postgresql://USER@HOST/DATABASE"),
    ("--artifacts= status ok.toml", "--artifacts '': name a folder"),
    ("--artifacts ok.toml status ok.toml", "cannot open the store in ok.toml: it is a file: name a folder"),
    ("run ok.toml --seeds=", "--seeds '': write seeds as 0,1,2 or 0-4"),
    ("run ok.toml --only=", "--only '' names nothing: write a model, a label or a dataset"),
    ("run ok.toml --only=,", "--only ',' names nothing"),
    ("run ok.toml --jobs 99999999999999999999", "--jobs"),
    ("-p made run ok.toml", "write -p no:NAME"),
    ("-p no:nobody list", "is not installed"),
    ("runn ok.toml", "Did you mean 'run'"),
    ("status nowhere.toml", "no suite at nowhere.toml"),
    ("list modles", "did you mean 'models'"),
    ("show", "Missing argument 'run'"),
    ("show unifrm", "no run 'unifrm'"),
    ("show code.py", "no run 'code.py'"),
    ("show uniform --log-lines -1", "'--log-lines': has to be at least 0"),
    ("sample nothing", "no run 'nothing'"),
    ("sample nothing -o x.jpg", "the name has to end in .png for a grid, in .npz or / for single images"),
    ("sample nothing -o x.npz/", "the name has to end in .png for a grid, in .npz or / for single images"),
    ("sample nothing -o few/", "the folder is not empty"),
    ("score", "Missing argument"),
    ("score few --like digits", "'few': write samples:PATH"),
    ("score samples: --like digits", "'samples:': write samples:PATH, a folder of images or an .npz file"),
    ("score samples:few", "Missing option '--like'"),
    ("score samples:few --like digts", "did you mean 'digits'"),
    ("score samples:few --like digits --metrics fidd", "unknown metric 'fidd'"),
    ("score samples:few --like digits --metrics fid,fid", "'fid' stands twice"),
    ("score samples:few --like digits-binary --metrics fid-pixels", "images of few are (1, 4, 4), expected (1, 8, 8)"),
    ("score samples:binary.npz --like digits-binary", "samples:binary.npz: fid takes 10,000 samples, there are 30"),
    ("audit samples:few", "samples from a file have no code to audit"),
    ("show samples:few", "no run 'samples:few'"),
    ("sample nothing -n 0", "'-n' / '--number': has to be at least 1"),
    ("sample nothing --seed 99999999999999999999", "has to be at most 2147483647"),
    ("leaderboard ok.toml", "there is no result of ok.toml yet"),
    ("leaderboard ok.toml --check", "there is no ok/records.jsonl"),
    ("leaderboard ok.toml --format xml", "--format 'xml': it is one of"),
    ("export ok.toml", "has no run of ok.toml"),
    ("figure likelihood", "Missing argument"),
    ("figure likelihood nowhere", "no suite at nowhere.toml"),
    ("figure receptive-field uniform --size 1000000", "has 1,000,000,000,000 entries; at most 67,108,864"),
    ("figure likelihood ok.toml --format bmp", "--format 'bmp': it is one of"),
    ("compare uniform", "Missing argument"),
    ("compare uniform other", "found with --suite SUITE"),
    ("compare uniform other --suite nowhere", "no suite at nowhere.toml"),
    ("merge ok.toml", "Missing argument"),
    ("merge ok.toml nowhere", "nowhere"),
    ("merge ok.toml folder", "folder"),
    ("merge ok.toml archives/text", "per-image.safetensors: cannot be read as scores per image: its header lacks"),
    ("merge ok.toml archives/list", "archives/list"),
    ("merge ok.toml archives/empty-object", "records.jsonl:1: not a record: run is missing"),
    ("merge ok.toml archives/newer", "archives/newer"),
    ("merge ok.toml archives/binary", "archives/binary"),
    ("merge ok.toml archives/nested", "archives/nested"),
    ("merge ok.toml archives/text --prefer mine", "--prefer 'mine': it is one of"),
    ("audit", "name a model to audit"),
    ("audit unifrom", "did you mean 'uniform'"),
    ("audit uniform --size 3x3", "write height x width x channels x levels"),
    ("audit uniform --size 0x3x1x2", "height must be at least 1, not 0"),
    ("audit uniform --size 1000000x1000000x1x2", "has 1,000,000,000,000 entries; at most 67,108,864"),
    ("audit uniform --size 3x3x1x2 --dataset digits", "give one of them"),
    ("audit uniform --size 3x3x1x1", "levels must be from 2 to 256, not 1"),
    ("audit uniform --checks nomalisation", "nomalisation"),
    ("audit uniform --set scale", "write HYPERPARAMETER=VALUE"),
    ("audit uniform --set scale=1", "has no hyperparameter 'scale'"),
    ("audit uniform --seed -1", "'--seed': has to be at least 0"),
    ("audit uniform --code-file x", "--code-file goes with --code N"),
    ("audit uniform --code 0", "'--code': has to be at least 1"),
    ("audit uniform --code 5", "has no trained run 'uniform'"),
    ("audit uniform --code 5 --weights x", "--weights needs --dataset"),
    ("new-plugin Bad_Name", "Bad_Name"),
    ("new-plugin fine --kind exat", "kind 'exat' is none of"),
    ("new-plugin uniform", "uniform"),
    ("schema ok.toml", "ok.toml: File exists"),
    ("profile generation", "name models to profile"),
    ("profile generation unifrom", "no model, and no run, 'unifrom'"),
    ("profile generation uniform --sizes x", "has to be a whole number, not 'x'"),
    ("profile generation uniform --sizes 1000000", "has 1,000,000,000,000 entries; at most 67,108,864"),
    ("profile trace uniform --size 1000000", "has 1,000,000,000,000 entries; at most 67,108,864"),
    ("profile generation uniform --levels 999", "has to be at most 256"),
    ("profile generation uniform --samplers fast --sizes 2", "fast"),
    ("profile generation uniform --baseline made", "baseline 'made' is none of the models"),
    ("profile generation uniform:", "write MODEL:HYPERPARAMETER=VALUE"),
    ("profile generation uniform:scale=1", "has no hyperparameter 'scale'"),
    ("profile generation uniform --suite ok.toml", "give the one or the others"),
    ("profile generation --suite ok.toml", "a profile begins with"),
    ("profile report nowhere", "no profile at nowhere.toml"),
    ("profile report folder", "folder has no measurements.jsonl"),
    ("profile report measured", "measured/measurements.jsonl, line 1"),
    ("profile trace uniform --what samplin", "--what 'samplin': it is one of"),
    ("profile trace uniform -o x.txt", "has to end in .json or .json.gz"),
    ("profile trace unifrom", "no model, and no run, 'unifrom'"),
]


@pytest.fixture(scope="module")
def place(make_lab):
    """A folder of right and wrong files."""
    lab = make_lab()
    root = lab.root
    lab.write("ok.toml", suite_text(""))
    lab.write("code.py", "THREE = 3\n")
    lab.write("torn.py", "class K(\n")
    for name in ("folder", "folder.toml", "empty", "few", "mixed", "text", "measured"):
        (root / name).mkdir()
    (root / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (root / "a.b.toml").write_text(suite_text(""))
    for index in range(3):
        Image.new("L", (4, 4), index).save(root / "few" / f"{index}.png")
    for index in range(12):
        Image.new("L", (5 if index == 7 else 4, 4), index).save(root / "mixed" / f"{index:02}.png")
    (root / "text" / "a.png").write_text("no image")
    (root / "text.npz").write_text("no archive")
    drawn = np.random.default_rng(0).integers(0, 2, (30, 8, 8), dtype=np.uint8)
    np.savez(root / "binary.npz", images=drawn, levels=2)
    np.savez(root / "few-samples.npz", images=7 * drawn)
    np.savez(root / "colour.npz", images=np.stack([drawn] * 3, 1), levels=2)
    np.savez(root / "two.npz", mu=np.zeros(2), sigma=np.eye(2))
    np.savez(root / "crooked.npz", mu=np.zeros(2), sigma=np.array([[1.0, 1.0], [0.0, 1.0]]))
    np.savez(root / "endless.npz", mu=np.array([0.0, np.inf]), sigma=np.eye(2))
    np.savez(root / "floats.npz", images=np.random.default_rng(0).random((20, 4, 4)))
    pixels, labels = np.arange(320, dtype=np.uint16).astype(np.uint8).reshape(20, 4, 4), np.arange(20) % 2
    np.savez(root / "unnamed.npz", a=pixels, b=pixels)
    np.savez(root / "numbered.npz", pixels, pixels)
    np.savez(root / "labels.npz", x_train=pixels, y_train=labels[:3], x_test=pixels, y_test=labels)
    np.savez(root / "classes.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels + 1)
    for split in ("train", "val"):
        (root / "parted" / split).mkdir(parents=True)
        Image.new("L", (4, 4)).save(root / "parted" / split / "a.png")
    np.savez(root / "objects.npz", images=np.array([{}] * 20, dtype=object))
    with zipfile.ZipFile(root / "nothing.npz", "w"):
        pass
    (root / "measured" / "measurements.jsonl").write_text('{"a": 1}\n')
    contents = {
        "text": b"no record\n", "list": b"[]\n", "empty-object": b'{"version": 1}\n', "binary": b"\xff\xfe\n",
        "newer": json.dumps({"version": 99}).encode() + b"\n", "nested": b"[" * 100_000 + b"\n",
    }  # fmt: skip
    for name, content in contents.items():
        (root / "archives" / name).mkdir(parents=True)
        (root / "archives" / name / "records.jsonl").write_bytes(content)
        (root / "archives" / name / "per-image.safetensors").write_bytes(save({}, {"genharness": '{"images": {}}'}))
    (root / "archives" / "text" / "per-image.safetensors").write_bytes(save({}))
    return lab


@pytest.fixture
def complain(place, no_children, monkeypatch, tmp_path):
    """Gives a command that has to be refused, and returns the line that it says."""
    monkeypatch.chdir(place.root)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def refuse(*_, **__):
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.OpenerDirector.open", refuse)

    def run(*arguments):
        answer = place.harness(*arguments)
        assert answer.code != 0, answer
        assert answer.out == ""
        said = [line for line in answer.err.splitlines() if not line.startswith("note: ")]
        assert len(said) == 1, answer
        assert said[0].startswith("error: ")
        assert not JARGON.search(said[0]), said[0]
        return said[0]

    return run


def test_the_table_is_long():
    assert len(SUITES) + len(PROFILES) + len(COMMANDS) >= 200


@pytest.mark.parametrize("name", SUITES)
def test_a_mistake_in_a_suite_is_one_line(complain, place, name):
    change, says = SUITES[name]
    file = place.write(f"bad-{name}.toml", suite_text(change))
    line = complain("run", file.name)
    assert says in line
    assert len(line) < 1000


@pytest.mark.parametrize("name", PROFILES)
def test_a_mistake_in_a_profile_is_one_line(complain, place, name):
    change, says = PROFILES[name]
    models = "" if re.search("models|no-", change + name) else '[[models]]\nname = "uniform"\n'
    file = place.write(f"profile-{name}.toml", f"{change}\n{models}")
    assert says in complain("profile", "generation", "--suite", file.name)


@pytest.mark.parametrize(("command", "says"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_a_mistake_in_a_command_is_one_line(complain, command, says):
    assert says in complain(*command.split(" "))

"""How far photos differ by chance, and how far when they really have changed.

    python -m benchmarks.drift

Measures the usable photos of a folder once, as ExampleGen does, and lets TFDV compare two parts of
them with the comparators of `pipeline.data.drift`. By chance: random halves of a given number of
photos, five times, and the folder's own splits train and test. Changed: of the same number of
photos, the second half is darkened, yellowed, blurred, or of a single breed. Prints the largest
distance of any feature.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageFilter
import tensorflow_data_validation as tfdv
from numpy.typing import NDArray

from pipeline import settings
from pipeline.core import features
from pipeline.data import appearance, drift, health, preprocessing

ROOT = Path(__file__).parents[2] / "shared" / "data" / "oxford-iiit-pet-128"
_ROUNDS = 5

Change = Callable[[NDArray[Any]], NDArray[Any]]


def blur(photo: NDArray[Any]) -> NDArray[Any]:
    """Out of focus, by a hundredth of the photo's height and width."""
    radius = sum(photo.shape[:2]) / 100
    picture = PIL.Image.fromarray(photo).filter(PIL.ImageFilter.GaussianBlur(radius))
    return np.asarray(picture)


CHANGES: dict[str, Change] = {
    "half as bright": lambda photo: photo // 2,
    "a quarter as bright": lambda photo: photo // 4,
    "half the blue": lambda photo: photo // np.array([1, 1, 2], np.uint8),
    "blurred": blur,
}


def look(root: Path) -> pd.DataFrame:
    """A row a sound photo: what is compared, its split, and its path."""
    rows = []
    for split, sound in health.examine(root, settings.Data()).sound.items():
        for item, checked in sound:
            shares = {features.share_key(n): s for n, s in checked.class_shares.items()}
            names = {features.BREED: item.breed, features.SPECIES_KEY: item.species}
            what = {"split": split, "path": item.image}
            rows.append({**names, **shares, **checked.appearance, **what})
    return pd.DataFrame(rows)


def changed(photos: pd.DataFrame, change: Change) -> pd.DataFrame:
    """The same photos as they would look."""
    result = photos.copy()
    looks = [
        appearance.measure(change(preprocessing.decode_image(Path(path).read_bytes()).numpy()))
        for path in photos["path"]
    ]
    for name in looks[0]:
        result[name] = [look[name] for look in looks]
    return result


def distances(today: pd.DataFrame, before: pd.DataFrame) -> dict[str, float]:
    """Distance of each feature, by TFDV."""
    statistics = [
        tfdv.generate_statistics_from_dataframe(part.drop(columns=["split", "path"]))
        for part in (today, before)
    ]
    schema = tfdv.infer_schema(statistics[1])
    for name, comparator in drift.comparators(1).items():
        tfdv.get_feature(schema, name).drift_comparator.CopyFrom(comparator)
    found = tfdv.validate_statistics(statistics[0], schema, previous_statistics=statistics[1])
    return {row["feature"]: row["distance"] for row in drift.rows(found)}


def show(title: str, found: list[dict[str, float]]) -> None:
    """Prints the largest distance of each feature over some comparisons."""
    worst = {name: max(each[name] for each in found) for name in found[0]}
    ordered = sorted(worst.items(), key=lambda item: -item[1])
    print(f"{title:32}", "  ".join(f"{name} {value:.2f}" for name, value in ordered), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, default=ROOT)
    parser.add_argument("--counts", type=int, nargs="+", default=[40, 100, 400, 1600])
    args = parser.parse_args()
    photos = look(args.data_root)
    version = importlib.metadata.version("tensorflow-data-validation")
    print(f"{datetime.date.today()}, TFDV {version}, {args.data_root.name}, {len(photos)} photos")
    random = np.random.default_rng(0)
    for count in args.counts:
        if 2 * count > len(photos):
            raise SystemExit(f"There are not twice {count} photos; choose other --counts.")
        found = []
        for _ in range(_ROUNDS):
            drawn = photos.iloc[random.permutation(len(photos))[: 2 * count]]
            found.append(distances(drawn[:count], drawn[count:]))
        show(f"{count} against {count} by chance", found)
    parts = [photos[photos["split"] == split] for split in (features.TEST, features.TRAIN)]
    show(" against ".join(f"{p['split'].iloc[0]} ({len(p)})" for p in parts), [distances(*parts)])
    drawn = photos.iloc[random.permutation(len(photos))]
    half = min(args.counts[-1], len(photos) // 2)
    today, before = drawn[:half], drawn[half : 2 * half]
    for name, change in CHANGES.items():
        show(f"{half}, {name}", [distances(changed(today, change), before)])
    breed = drawn[features.BREED].mode()[0]
    show(f"{breed} alone", [distances(drawn[drawn[features.BREED] == breed], before)])


if __name__ == "__main__":
    main()

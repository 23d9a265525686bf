"""Names and numbers that all stages share: features, splits, classes.

Trimaps of the Oxford-IIIT Pet data set contain 1 (pet), 2 (background) and 3 (border). Everywhere
inside the pipeline a pixel's class is its *class id*, ``trimap value - 1``.
"""

CLASS_NAMES = ("pet", "background", "border")
NUM_CLASSES = len(CLASS_NAMES)
TRIMAP_OFFSET = 1  # trimap value of class id 0

SPECIES = ("cat", "dog")

# `train` fits the weights, `eval` picks the best epoch, only the gate sees `test`.
TRAIN, EVAL, TEST = "train", "eval", "test"
SPLITS = (TRAIN, EVAL, TEST)
OVERALL = "overall"  # the slice of all examples of a split

# Features of a raw example, as ExampleGen writes it.
IMAGE = "image"  # the photo, as encoded on disk
MASK = "mask"  # the trimap PNG, as encoded on disk
ID = "id"
BREED = "breed"
SPECIES_KEY = "species"
HEIGHT = "height"  # pixels
WIDTH = "width"  # pixels
FILE_SIZE = "file_size"  # of the photo, bytes
# The appearance of a photo, each 0 to 1; see `pipeline.data.appearance`.
BRIGHTNESS, SHARPNESS = "brightness", "sharpness"
COLOURS = ("red", "green", "blue")


def share_key(class_name: str) -> str:
    """Return the name of the raw feature with the fraction of pixels (0 to 1) of a class."""
    return f"{class_name}_share"


# Features that are compared with the last release's data to detect drift.
DRIFT_NUMBERS = (BRIGHTNESS, SHARPNESS, *COLOURS, *map(share_key, CLASS_NAMES))
DRIFT_NAMES = (SPECIES_KEY, BREED)


# Features of a transformed example.
IMAGE_PIXELS = "image_pixels"  # packed uint8 [size, size, 3]
MASK_PIXELS = "mask_pixels"  # packed class ids, uint8 [size, size]

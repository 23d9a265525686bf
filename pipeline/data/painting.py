"""Paints the photos of the built-in data and their trimaps.

Every photo shows one pet of one of eight made-up breeds, in one of four poses, in front of a
blurred meadow, room, sofa or pavement. The trimap follows from the silhouette. Its border is as
wide as in real trimaps, about 3.5 % of the photo's longer side, and the fur frays over it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from pipeline.core.features import SPECIES

PET, BACKGROUND, BORDER = 1, 2, 3  # trimap values

Rng = np.random.Generator
Floats = npt.NDArray[np.floating[Any]]
Colour = tuple[int, int, int]
Pair = tuple[float, ...]  # x and y
Part = tuple[str, list[Floats]]  # tone and polygons, which are float [n, 2], x and y


class Breed(NamedTuple):
    """The looks of a breed. Names of cats are capitalised, as in the real data set."""

    name: str
    pattern: str  # of the coat, see `_pattern`
    ears: str  # a name in DRAWINGS, as is `tail`
    tail: str
    frizz: float  # strength of the fur texture
    coat: Colour
    marking: Colour  # of the pattern
    light: Colour  # muzzle, chest and paws
    dark: Colour  # ears
    eye: Colour


# fmt: off
BREEDS = (
    Breed("Marmalade", "stripes", "cat ears", "long tail", 1.0,
          (222, 136, 58), (160, 76, 24), (250, 224, 188), (196, 104, 44), (150, 178, 60)),
    Breed("Rosette", "spots", "cat ears", "long tail", 1.0,
          (206, 160, 104), (74, 44, 26), (240, 216, 180), (130, 84, 50), (196, 190, 70)),
    Breed("Seal_Point", "plain", "cat ears", "dark tail", 1.5,
          (238, 218, 188), (206, 176, 140), (250, 238, 220), (98, 68, 54), (80, 150, 225)),
    Breed("Tuxedo", "plain", "cat ears", "long tail", 1.0,
          (50, 44, 46), (74, 64, 62), (246, 240, 232), (38, 34, 36), (222, 190, 60)),
    Breed("curly_fox", "plain", "pricked ears", "curled tail", 1.4,
          (212, 126, 62), (186, 98, 40), (252, 238, 218), (178, 96, 46), (58, 32, 18)),
    Breed("golden_floppy", "plain", "floppy ears", "bushy tail", 1.8,
          (226, 178, 108), (204, 148, 78), (246, 216, 164), (178, 118, 60), (60, 34, 20)),
    Breed("harlequin_hound", "spots", "floppy ears", "bushy tail", 1.0,
          (244, 238, 230), (44, 38, 38), (250, 246, 242), (52, 44, 44), (64, 40, 28)),
    Breed("patched_beagle", "patches", "floppy ears", "short tail", 1.0,
          (246, 234, 216), (164, 92, 42), (250, 244, 236), (116, 62, 30), (58, 34, 20)),
)

# Parts of the body, separated by ";" or line breaks, later ones on top: a tone, then shapes.
# Tones are colours of the breed or of TONES, "far" (coat in the shade) and "point" (muzzle, paws).
# Shapes: e(llipse) centre radii [degrees], p(olygon) points..., l(imb) points... radii on a Bezier
# curve.
# "e2" is drawn on both sides; "e@.4" shifts by 0.4 times the yaw of the head. A part that starts
# with tail, head or ears includes the breed's own at a position and scale. y points down.
TONES = {"skin": (222, 160, 146), "black": (26, 20, 22), "white": (255, 255, 255),
         "nose": (206, 112, 112), "lip": (86, 58, 52), "tongue": (228, 108, 122)}
DRAWINGS = {
    "sit": """tail .28,.8 1; coat e2 .33,.7 .26,.3 -20; point e2 .38,.95 .17,.08
        coat l 0,-.25 0,.2 0,.6 .24,.38; light e 0,.15 .17,.32
        coat l2 .16,.2 .2,.6 .17,.95 .14,.09; point e2 .17,.98 .12,.07; head .04,-.5 .39""",
    "stand": """tail -.66,-.02 -1
        far l -.4,.1 -.42,.5 -.36,.84 .17,.08 l .6,.1 .62,.5 .64,.84 .15,.08
        coat l -.55,.1 -.62,.5 -.55,.86 .2,.08 l .45,.1 .44,.5 .43,.88 .17,.08
        point e -.51,.88 .11,.06 e .47,.9 .11,.06
        coat l -.54,.02 0,0 .5,.02 .28,.31 l .5,0 .74,-.3 .26,.2; light e .68,.06 .13,.22
        head .82,-.5 .36""",
    "lie": """tail -.75,.5 -1; coat l -.5,.32 0,.12 .35,.3 .38,.33 e -.45,.45 .32,.26 20
        coat l .35,.2 .5,-.1 .27,.22; light e .5,.22 .16,.22
        coat l .2,.5 .4,.62 .62,.66 .13,.09 l .42,.5 .62,.62 .84,.66 .13,.09
        point e .64,.67 .12,.08 e .86,.67 .12,.08; head .55,-.28 .38""",
    "portrait": "coat e 0,1.15 .82,.75 l 0,.1 0,.8 .45,.55; light e 0,1 .34,.55; head 0,-.12 .66",
    "long tail": "coat l 0,0 .55,.2 .8,-.4 .4,-.8 .075,.06",
    "dark tail": "dark l 0,0 .55,.2 .8,-.4 .4,-.8 .085,.07",
    "bushy tail": "coat l 0,0 .5,.15 .6,-.4 .06,.12",
    "curled tail": "coat l 0,.1 .6,-.3 .2,-.9 -.2,-.35 .1,.13",
    "short tail": "coat l 0,0 .2,-.3 .12,-.55 .08,.03",
    "cat ears": """dark p2 .93,-.1 1,-.75 .86,-1.5 .45,-1.12 .12,-.7
        skin p2 .8,-.4 .8,-1.28 .36,-.78""",
    "pricked ears": """coat p2 .8,-.3 .9,-.9 .72,-1.36 .36,-1.05 .15,-.75
        skin p2 .68,-.6 .7,-1.14 .36,-.82""",
    "floppy ears": "dark e2 .86,.06 .26,.72 -14",
    "cat": """ears 0,0 1; coat e 0,0 1,.84 e@.2 0,.32 .78,.55; point e2@.4 .2,.46 .27,.22
        lip l2@.45 0,.3 0,.6 .14,.62 .32,.5 .02,.02
        white l2@.45 .3,.42 1.25,.26 .015,.006 l2@.45 .3,.48 1.25,.5 .015,.006
        nose p@.45 -.13,.2 .13,.2 0,.38; black e2@.35 .42,-.06 .28,.23 -12
        eye e2@.35 .42,-.06 .23,.19 -12; black e2@.38 .42,-.06 .1,.17
        white e@.35 -.36,-.13 .06,.06 e@.35 .48,-.13 .06,.06""",
    "dog": """ears behind 0,0 1; coat e 0,-.1 .84,.86 e@.3 0,.3 .6,.6
        light e@.75 0,.52 .44,.46 e@.9 0,.4 .36,.3 e@.4 0,-.35 .13,.5
        tongue e@.95 .03,.86 .15,.26; lip l2@.95 0,.3 0,.75 .14,.8 .34,.68 .025,.025
        black e@.95 0,.3 .21,.15; white e@.95 -.06,.24 .05,.025; black e2@.4 .36,-.16 .17,.18
        eye e2@.4 .36,-.16 .14,.15; black e2@.42 .36,-.16 .08,.09
        white e@.4 -.31,-.22 .05,.05 e@.4 .41,-.22 .05,.05; ears before 0,0 1""",
}
# fmt: on


def species_of(breed: Breed) -> str:
    """Return "cat" or "dog"."""
    return SPECIES[0] if breed.name[0].isupper() else SPECIES[1]


def paint_pair(breed: Breed, rng: Rng) -> tuple[Image.Image, Image.Image]:
    """Paint a photo (RGB) and its trimap (L, values 1 to 3) with sides of 200 to 500 pixels."""
    longer = 500 if rng.random() < 0.5 else int(rng.integers(270, 500))
    shorter = max(200, int(longer * rng.choice([0.66, 0.75, 0.8, 1.0], p=[0.3, 0.45, 0.15, 0.1])))
    width, height = (longer, shorter) if rng.random() < 0.65 else (shorter, longer)
    pose = str(rng.choice(["sit", "stand", "lie", "portrait"], p=[0.3, 0.25, 0.25, 0.2]))
    spin, yaw = _rotate(rng.uniform(-9, 9)), float(rng.uniform(-0.35, 0.35))
    parts = list(_parts(pose, breed, yaw, rng))
    spin[0] *= rng.choice([-1, 1])  # facing left or right
    parts = [(tone, [polygon @ spin for polygon in polygons]) for tone, polygons in parts]
    corners = np.concatenate([polygon for _, polygons in parts for polygon in polygons])
    low, high = corners.min(0), corners.max(0)
    frame = np.array([width, height])
    if pose == "portrait":  # cut by the frame
        unit = float((frame / (high - low)).max() * rng.uniform(0.66, 0.88))
    else:
        unit = float((frame / (high - low)).min() * rng.uniform(0.86, 1.06))
    slack = frame - (high - low) * unit
    place = slack * (rng.uniform(0.1, 0.9), rng.uniform(0.45, 0.95)) - low * unit
    if pose == "portrait":
        place[1] = frame[1] * rng.uniform(0.03, 0.16) - low[1] * unit
    painter = _Painter(breed, width, height, unit, rng)
    for tone, polygons in parts:
        painter.paint(tone, [polygon * unit + place for polygon in polygons])
    return painter.finish(_background(width, height, rng))


def _parts(drawing: str, breed: Breed, yaw: float, rng: Rng) -> Iterator[Part]:
    """Yield the parts of a drawing in its own units."""
    for part in DRAWINGS[drawing].replace("\n", ";").split(";"):
        words = part.split()
        if words[0] in ("tail", "head", "ears"):
            included = {"tail": breed.tail, "head": species_of(breed), "ears": breed.ears}[words[0]]
            if len(words) == 4 and (words[1] == "before") != (breed.ears == "floppy ears"):
                continue  # floppy ears are in front of the head, pricked ones behind it
            at, scale = np.array(words[-2].split(","), float), float(words[-1])
            flip = np.array([np.sign(scale), 1]) * abs(scale)
            for tone, polygons in _parts(included, breed, yaw, rng):
                yield tone, [polygon * flip + at for polygon in polygons]
            continue
        starts = [i for i, word in enumerate(words) if word[0] in "elp" and i > 0] + [len(words)]
        shapes: list[Floats] = []
        for start, end in itertools.pairwise(starts):
            kind, _, follow = words[start].partition("@")
            numbers = [tuple(map(float, word.split(","))) for word in words[start + 1 : end]]
            for shape in _shape(kind[0], numbers, rng):
                for side in (1, -1) if kind.endswith("2") else (1,):
                    shapes.append(shape * (side, 1) + (yaw * float(follow or 0), 0))
        yield words[0], shapes


def _rotate(degrees: float) -> Floats:
    """Return the matrix that rotates row vectors, float [2, 2]."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s], [-s, c]])


def _shape(kind: str, numbers: list[Pair], rng: Rng) -> list[Floats]:
    if kind == "p":
        return [np.array(numbers)]
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    disc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if kind == "e":
        return [disc * numbers[1] @ _rotate(*numbers[2] if len(numbers) > 2 else (0,)) + numbers[0]]
    t = np.linspace(0, 1, 24)[:, None, None]
    thick = numbers[-1][0] + (numbers[-1][1] - numbers[-1][0]) * t[:, :, 0]
    points = np.array(numbers[:-1])
    points[1:] += rng.normal(0, 0.35, points[1:].shape) * min(0.12, thick.max())
    curve = points[None].repeat(len(t), axis=0)
    while curve.shape[1] > 1:  # de Casteljau's construction of the Bezier curve
        curve = curve[:, :-1] * (1 - t) + curve[:, 1:] * t
    return [disc * r + centre for centre, r in zip(curve[:, 0], thick, strict=True)]


def _noise(rng: Rng, height: int, width: int, cell_y: float, cell_x: float) -> Floats:
    """Return smooth noise, float32 [height, width] in [0, 1], for cells of a size in pixels."""
    rows, columns = max(2, round(height / cell_y)), max(2, round(width / cell_x))
    grid = Image.fromarray(rng.integers(0, 256, (rows, columns)).astype(np.uint8))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255


def _blur(mask: Floats, radius: float) -> Floats:
    """Blur a float [height, width] array in [0, 1], quantised to 1/255, by a Gaussian."""
    image = Image.fromarray(np.rint(mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _pattern(breed: Breed, height: int, width: int, unit: float, rng: Rng) -> Floats:
    """Return the opacity of the markings on the coat, float32 [height, width] in [0, 1]."""
    if breed.pattern == "stripes":
        y, x = np.mgrid[:height, :width].astype(np.float32) / (unit * 0.032)
        waves = np.sin(x + 0.25 * y + 14 * _noise(rng, height, width, unit * 0.5, unit * 0.5))
        stripes: Floats = np.clip(waves * 2, 0, 1) * 0.85
        return stripes
    looks = {"spots": (0.13, 0.58, 9), "patches": (0.55, 0.47, 12), "plain": (0.4, 0.25, 1)}
    cell, level, gain = looks[breed.pattern]
    noise = _noise(rng, height, width, unit * cell, unit * cell)
    opacity: Floats = np.clip((noise - level) * gain, 0, 1)
    return opacity


class _Painter:
    """Paints one pet part by part; colours are float32 0 to 255, `cover` is 1 where the pet is."""

    def __init__(self, breed: Breed, width: int, height: int, unit: float, rng: Rng):
        self.breed, self.unit, self.rng = breed, unit, rng
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.cover = np.zeros((height, width), np.float32)
        self.pattern = _pattern(breed, height, width, unit, rng)
        tufts = _noise(rng, height, width, max(3, unit * 0.1), max(2, unit * 0.016))
        self.fur = 0.6 * tufts + 0.4 * _noise(rng, height, width, 4, 1.5) - 0.5
        self.light_x = rng.uniform(-0.8, 0.8)

    def paint(self, tone: str, polygons: list[Floats]) -> None:
        height, width = self.cover.shape
        corners = np.concatenate(polygons)
        x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, (width, height)).tolist()
        x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 0, (width, height)).tolist()
        if x1 - x0 < 3 or y1 - y0 < 3:
            return
        drawn = Image.new("L", ((x1 - x0) * 2, (y1 - y0) * 2))
        for polygon in polygons:
            outline = ((polygon - (x0, y0)) * 2).ravel().tolist()
            ImageDraw.Draw(drawn).polygon(outline, fill=255)
        mask = np.asarray(drawn.reduce(2), np.float32) / 255
        radius = round(float(np.clip(0.2 * mask.sum(dtype=float) ** 0.5, 1, self.unit * 0.12)), 2)
        relief = _blur(mask, radius)
        slope_y, slope_x = np.gradient(relief)
        area = np.s_[y0:y1, x0:x1]
        shade = 0.76 + 0.3 * relief + 0.6 * radius * (self.light_x * slope_x + 0.8 * slope_y)
        points = "dark" if self.breed.tail == "dark tail" else "light"
        field = {"far": "coat", "point": points}.get(tone, tone)
        colour = np.array(TONES.get(tone) or getattr(self.breed, field), np.float32)
        if tone not in TONES and tone != "eye":
            shade = shade + 0.3 * self.breed.frizz * self.fur[area]
        if field == "coat":
            marking = np.array(self.breed.marking, np.float32)
            colour = colour + self.pattern[area][..., None] * (marking - colour)
        if tone == "far":
            shade = shade * 0.7
        self.rgb[area] += (colour * shade[..., None] - self.rgb[area]) * mask[..., None]
        self.cover[area] = np.maximum(self.cover[area], mask)

    def finish(self, background: Floats) -> tuple[Image.Image, Image.Image]:
        """Return the photo on `background`, float32 [height, width, 3], and the trimap."""
        height, width = self.cover.shape
        sigma = 0.014 * max(height, width)
        distance = _blur(self.cover, sigma)
        trimap = np.full((height, width), BORDER, np.uint8)
        trimap[distance > 0.88] = PET
        trimap[distance < 0.12] = BACKGROUND
        # Outside the silhouette, tufts of fur continue in the nearest colours.
        near = _blur(self.cover, sigma * 0.6) + 1e-3
        covered = np.moveaxis(self.rgb * self.cover[..., None], -1, 0) / 400
        fringe = np.stack([_blur(c, sigma * 0.6) * 400 / near for c in covered], axis=-1)
        hair = self.rgb + (fringe - self.rgb) * (1 - self.cover[..., None])
        alpha = np.clip((distance + self.fur * 0.55 - 0.3) / 0.4, 0, 1)[..., None]
        rim = (1 - np.abs(2 * distance - 1))[..., None]
        shadow = np.pad(_blur(self.cover, sigma * 2), ((round(sigma), 0), (0, 0)), "edge")
        photo = background * (1 - 0.45 * shadow[:height, :, None])
        photo = photo + (hair * (1 + 0.25 * rim) - photo) * alpha
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        lamp = self.rng.uniform(0.88, 1.12) + 0.1 * self.light_x * x - 0.1 * (x * x + y * y)
        photo = photo * lamp[..., None] * self.rng.uniform(0.95, 1.05, 3)
        photo = np.rint(photo + self.rng.normal(0, 3.5, photo.shape))  # grain of the sensor
        return Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)), Image.fromarray(trimap)


def _background(width: int, height: int, rng: Rng) -> Floats:
    """Paint a blurred scene, float32 [height, width, 3], 0 to 255."""
    w, h = width // 2, height // 2
    scene = str(rng.choice(["meadow", "room", "sofa", "pavement"]))
    palettes = {
        "meadow": [(120, 170, 205), (62, 104, 58), (88, 138, 66), (52, 92, 70)],
        "room": [(150, 170, 180), (110, 124, 128), (90, 130, 140), (128, 118, 140)],
        "sofa": [(94, 112, 150), (70, 88, 128), (120, 110, 150), (74, 126, 128)],
        "pavement": [(112, 128, 140), (128, 132, 136), (92, 112, 108), (84, 98, 126)],
    }
    palette = np.array(palettes[scene]) + rng.integers(-18, 19, (4, 3))
    colours = [tuple(c) for c in palette.tolist()]
    image = Image.new("RGB", (w, h), colours[0])
    draw = ImageDraw.Draw(image)
    horizon = int(h * rng.uniform(0.4, 0.7))

    def scatter(number: int, top: float, bottom: float, size: float, shape: str) -> None:
        for _ in range(number):
            x, y = rng.uniform(-0.1, 1) * w, rng.uniform(top, bottom)
            half_x, half_y = (rng.uniform(0.4, 1, 2) * size * max(w, h)).tolist()
            shade = palette[rng.integers(4)] * rng.uniform(0.75, 1.2)
            edges = (x - half_x, y - half_y, x + half_x, y + half_y)
            getattr(draw, shape)(edges, fill=tuple(shade.astype(int).tolist()))

    round_things = scene in (
        "meadow",
        "sofa",
    )  # hedges and cushions, not pictures or houses
    scatter(int(rng.integers(8, 16)), 0, horizon, 0.12, "ellipse" if round_things else "rectangle")
    draw.rectangle((0, horizon, w, h), fill=colours[2])
    for step in range(1, 7):  # planks, tiles, folds
        y = horizon + (h - horizon) * (step / 6) ** 1.6
        draw.line((0, y, w, y), fill=colours[3], width=1 + step // 3)
    scatter(int(rng.integers(3, 9)), horizon, h, 0.06, "ellipse")
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 5))))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    cell = {"meadow": (14, 3), "room": (40, 60), "sofa": (7, 7), "pavement": (9, 9)}[scene]
    texture = _noise(rng, height, width, *cell) + 0.6 * _noise(rng, height, width, 70, 70) - 0.8
    return pixels * (1 + rng.uniform(0.12, 0.3) * texture[..., None])

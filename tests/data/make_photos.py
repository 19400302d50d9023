"""Makes harvest.jpg and barn.jpg, the two photographs that tests, recipes and the demo work on.

Ours from the first pixel, so free of anybody's rights; shipped as files, because a test must not depend on a renderer.
Run again only to change a picture. It needs numpy and Pillow, which farm does not:

    python3 -m venv /tmp/photos && /tmp/photos/bin/pip install numpy Pillow
    /tmp/photos/bin/python tests/data/make_photos.py

The same numbers come out each time; another Pillow may write other JPEG bytes for them.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).parent


def rgb(colour):
    """'#rrggbb' as three floats, 0 to 1."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def mix(a, b, share):
    return a + (b - a) * share


def smooth(low, high, x):
    """0 below low, 1 above high, a soft step between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def value_noise(rng, x, y):
    """Smooth noise, 0 to 1, at the points x, y: random heights on a lattice, joined by soft steps."""
    lattice = rng.random((256, 256))
    xi, yi = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = smooth(0, 1, x - xi), smooth(0, 1, y - yi)
    corner = lambda dx, dy: lattice[(yi + dy) & 255, (xi + dx) & 255]  # noqa: E731
    return mix(mix(corner(0, 0), corner(1, 0), fx), mix(corner(0, 1), corner(1, 1), fx), fy)


def fractal(rng, x, y, octaves=6):
    """Noise on noise, each octave twice as fine and half as strong; 0 to 1."""
    total, weight = 0.0, 0.0
    for i in range(octaves):
        total = total + value_noise(rng, x * 2**i, y * 2**i) / 2**i
        weight += 1 / 2**i
    return total / weight


def gradient(y, stops):
    """Colours between (position, colour) stops, for positions y."""
    places = [place for place, _ in stops]
    colours = np.array([rgb(colour) for _, colour in stops])
    return np.stack([np.interp(y, places, colours[:, i]) for i in range(3)], axis=-1)


def grid(width, height):
    """x and y of every pixel, both in units of the height."""
    return np.meshgrid(np.arange(width) / height, np.arange(height) / height)


def lay(picture, colour, share):
    """Colour over the picture where share is 1."""
    return mix(picture, colour, share[..., None])


def sky(rng, x, y, stops, sun, glow):
    picture = gradient(y, stops)
    away = np.hypot(x - sun[0], y - sun[1])
    picture = picture + rgb(glow) * (0.75 * np.exp(-away * 5.5) + 0.25 * np.exp(-away * 1.6))[..., None]
    clouds = smooth(0.5, 0.78, fractal(rng, x * 2.2 + 3, y * 7.5)) * smooth(0.62, 0.1, y)
    lit = mix(rgb("#8d7f9c"), rgb("#ffe9c4"), np.exp(-away * 2.0)[..., None])
    picture = lay(picture, lit, clouds * 0.75)
    return lay(
        picture, rgb("#fffbe8") * 2.2, smooth(0.054, 0.047, away)
    )  # brighter than white: the film curve clips it


def hills(rng, picture, x, y, near, far, sun_x, ridges):
    """One ridge before the other; the farther, the more it fades into the haze."""
    for i, (base, rise, scale) in enumerate(ridges):
        depth = i / max(1, len(ridges) - 1)
        line = base - rise * (fractal(rng, x * scale + 17 * i, x * 0 + i, 7) - 0.35)
        grain = fractal(rng, x * 30, y * 70, 4) - 0.5
        warm = np.exp(-np.abs(x - sun_x) * 1.8)[..., None] * (1 - depth) * rgb("#5a3212")
        colour = mix(rgb(far), rgb(near), depth) + grain[..., None] * 0.18 * depth + warm
        mist = smooth(0.0, 0.16, y - line) * (1 - depth) * 0.55
        colour = lay(colour, rgb("#f3cfa0"), mist)
        picture = lay(picture, colour, smooth(-0.0012, 0.0012, y - line))
    return picture


def field(rng, picture, x, y, horizon, vanish_x, dark, light, rows):
    """Stubble in rows that meet at the horizon: a plane seen in perspective."""
    edge = horizon + 0.012 * np.sin(x * 3.1 + 0.4)
    depth = np.maximum(y - edge, 1e-4)
    across, along = (x - vanish_x) / depth, 1 / depth
    blur = smooth(0.01, 0.11, depth)  # rows finer than a pixel become their mean
    row = 0.5 + 0.5 * np.sin(across * rows + 0.6 * np.sin(along * 0.35)) * blur
    straw = fractal(rng, across * 14 + 40, along * 6 + 11, 5)
    stalks = fractal(rng, x * 210, y * 60, 3)
    shade = np.clip(0.62 * row + 0.95 * (straw - 0.32) + 0.5 * (stalks - 0.5) * smooth(0.02, 0.3, depth), 0, 1)
    colour = mix(rgb(dark), rgb(light), shade[..., None])
    colour = lay(colour, rgb("#f6cd8b"), np.exp(-depth * 11) * 0.65)
    return lay(picture, colour, smooth(-0.001, 0.001, y - edge))


def paint(width, height, draw_on):
    """What draw_on(draw, k) draws, at three times the size and shrunk: smooth edges. Returns colour and cover."""
    big = Image.new("RGBA", (width * 3, height * 3), (0, 0, 0, 0))
    draw_on(ImageDraw.Draw(big), height * 3)
    data = np.asarray(big.resize((width, height), Image.Resampling.BOX), dtype=float) / 255
    return data[..., :3] / np.maximum(data[..., 3:], 1e-6), data[..., 3]


def word(width, height, text, size, place, colour, opacity):
    font = ImageFont.load_default(size=size)
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).text(place, text, fill=255, font=font, anchor="ls")
    return rgb(colour), np.asarray(mask, dtype=float) / 255 * opacity


def develop(rng, picture, x, y, path, quality):
    """As from a camera: vignette, film curve, grain; then a JPEG."""
    height, width = y.shape
    corner = np.hypot((x - width / height / 2) / (width / height), y - 0.5)
    picture = np.clip(picture, 0, None) * (1 - 0.55 * smooth(0.35, 0.95, corner))[..., None]
    picture = 1.06 * picture / (1 + 0.16 * picture**2)
    picture = picture + rng.normal(0, 0.011, (height, width, 1))
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype("uint8"))
    image.save(path, quality=quality, optimize=True, progressive=True)
    print(path.name, image.size, f"{image.size[0] * image.size[1] / 1e6:.2f} megapixel", path.stat().st_size, "bytes")


def bales(draw, k):
    """Round straw bales, each with its shadow away from the sun."""
    for cx, cy, r in ((0.33, 0.80, 0.052), (0.93, 0.755, 0.03), (1.22, 0.865, 0.075), (0.60, 0.725, 0.018)):
        draw.polygon(
            [((cx + dx * r) * k, (cy + dy * r) * k) for dx, dy in ((-0.9, 0.8), (1.5, 0.8), (3.4, 1.35), (0.2, 1.15))],
            fill=(58, 36, 18, 150),
        )
        draw.polygon(
            [((cx + dx * r) * k, (cy + dy * r) * k) for dx, dy in ((0, -1), (1.25, -0.92), (1.45, 0.9), (0, 1))],
            fill=(120, 76, 32, 255),
        )
        draw.ellipse(
            [(cx + 0.5 * r) * k, (cy - 0.92 * r) * k, (cx + 2.0 * r) * k, (cy + 0.92 * r) * k], fill=(92, 57, 25)
        )
        turns = 7
        for i in range(turns, 0, -1):
            q = r * i / turns
            shade = (214, 158, 84) if i % 2 else (176, 120, 56)
            draw.ellipse([(cx - 0.82 * q) * k, (cy - q) * k, (cx + 0.82 * q) * k, (cy + q) * k], fill=shade)


def harvest():
    rng = np.random.default_rng(1730)
    width, height = 1620, 1080
    x, y = grid(width, height)
    stops = [(0, "#3f6aa3"), (0.25, "#8fa8bf"), (0.45, "#f0c48f"), (0.6, "#f6a25a"), (1, "#d9823f")]
    sun = (0.42, 0.40)
    picture = sky(rng, x, y, stops, sun, "#ffb861")
    ridges = [(0.47, 0.16, 1.6), (0.52, 0.15, 1.9), (0.575, 0.13, 2.3), (0.63, 0.10, 3.0)]
    picture = hills(rng, picture, x, y, "#3d3b22", "#b58d84", sun[0], ridges)
    picture = field(rng, picture, x, y, 0.645, sun[0] + 0.2, "#6b431b", "#f2bf66", 9.0)
    colour, cover = paint(width, height, bales)
    texture = 0.72 + 0.56 * fractal(rng, x * 150, y * 150, 3)
    picture = lay(picture, colour * texture[..., None], cover)
    picture = lay(picture, *word(width, height, "farm", 120, (1300, 180), "#fff8e6", 0.9))
    develop(rng, picture, x, y, HERE / "harvest.jpg", 84)


def barn_shapes(draw, k):
    """A gambrel barn, front and side, a silo and a fence."""

    def shape(points, fill):
        draw.polygon([(px * k, py * k) for px, py in points], fill=fill)

    def line(points, fill, width):
        draw.line([(px * k, py * k) for px, py in points], fill=fill, width=int(width * k))

    shape([(0.545, 0.45), (0.615, 0.45), (0.615, 0.735), (0.545, 0.735)], (150, 142, 140))
    shape([(0.59, 0.45), (0.615, 0.45), (0.615, 0.735), (0.59, 0.735)], (105, 98, 104))
    draw.pieslice([0.545 * k, 0.41 * k, 0.615 * k, 0.49 * k], 180, 360, fill=(176, 166, 160))
    for i in range(9):
        line([(0.545, 0.475 + i * 0.03), (0.615, 0.475 + i * 0.03)], (84, 78, 84), 0.0015)
    # the side in shade, its roof, and the front in the last light
    shape([(0.345, 0.60), (0.555, 0.615), (0.555, 0.735), (0.345, 0.755)], (92, 28, 24))
    shape([(0.235, 0.47), (0.475, 0.50), (0.535, 0.555), (0.325, 0.535)], (84, 76, 84))
    shape([(0.325, 0.535), (0.535, 0.555), (0.570, 0.622), (0.358, 0.612)], (62, 55, 64))
    front = [(0.125, 0.755), (0.125, 0.60), (0.15, 0.535), (0.235, 0.465), (0.32, 0.535), (0.345, 0.60), (0.345, 0.755)]
    shape(front, (176, 50, 36))
    for i in range(1, 16):
        px = 0.125 + 0.22 * i / 16
        top = np.interp(px, [0.125, 0.15, 0.235, 0.32, 0.345], [0.60, 0.535, 0.465, 0.535, 0.60])
        line([(px, top + 0.006), (px, 0.755)], (142, 38, 30), 0.0012)
    for i in range(1, 14):
        px = 0.345 + 0.21 * i / 14
        line([(px, 0.615), (px, 0.754 - 0.0195 * i / 14)], (74, 21, 20), 0.0012)
    white = (238, 226, 208)
    line([(0.117, 0.607), *front[2:5], (0.353, 0.607)], (50, 42, 48), 0.010)
    line([(0.127, 0.755), *front[1:6], (0.343, 0.755)], white, 0.0045)
    shape([(0.19, 0.645), (0.28, 0.645), (0.28, 0.755), (0.19, 0.755)], white)
    shape([(0.195, 0.65), (0.275, 0.65), (0.275, 0.755), (0.195, 0.755)], (134, 36, 28))
    for a, b in (((0.195, 0.65), (0.235, 0.755)), ((0.235, 0.65), (0.195, 0.755))):
        line([a, b], white, 0.003)
        line([(a[0] + 0.04, a[1]), (b[0] + 0.04, b[1])], white, 0.003)
    line([(0.235, 0.65), (0.235, 0.755)], white, 0.003)
    shape([(0.213, 0.545), (0.257, 0.545), (0.257, 0.595), (0.213, 0.595)], white)
    shape([(0.217, 0.549), (0.253, 0.549), (0.253, 0.591), (0.217, 0.591)], (255, 206, 112))
    line([(0.235, 0.549), (0.235, 0.591)], white, 0.002)
    line([(0.217, 0.57), (0.253, 0.57)], white, 0.002)
    for px in (0.40, 0.46, 0.515):
        shape([(px, 0.652), (px + 0.024, 0.653), (px + 0.024, 0.688), (px, 0.689)], (250, 190, 96))
        line([(px + 0.012, 0.652), (px + 0.012, 0.689)], (60, 20, 18), 0.0015)
    post = (52, 38, 34)
    for i in range(9):
        px, grow = -0.02 + 0.105 * i, 1 + 0.03 * i
        shape([(px, 0.80), (px + 0.011, 0.798), (px + 0.011, 0.80 + 0.075 * grow), (px, 0.80 + 0.075 * grow)], post)
    line([(-0.02, 0.818), (0.9, 0.822)], post, 0.006)
    line([(-0.02, 0.845), (0.9, 0.855)], post, 0.006)


def barn():
    rng = np.random.default_rng(4730)
    width, height = 960, 1280
    x, y = grid(width, height)
    stops = [(0, "#0f1b3d"), (0.3, "#3a3f73"), (0.5, "#a8607a"), (0.62, "#f0995c"), (0.72, "#ffc877"), (1, "#ffb060")]
    picture = sky(rng, x, y, stops, (0.83, 0.78), "#ff9a4d")
    stars = (rng.random((height, width)) > 0.9989) * rng.random((height, width)) * smooth(0.42, 0.05, y)
    glow = Image.fromarray((stars * 255).astype("uint8")).filter(ImageFilter.GaussianBlur(0.8))
    picture = picture + np.asarray(glow, dtype=float)[..., None] / 255 * 5
    ridges = [(0.69, 0.10, 2.2), (0.72, 0.08, 3.4)]
    picture = hills(rng, picture, x, y, "#3a2f3c", "#7d5a6d", 0.78, ridges)
    picture = field(rng, picture, x, y, 0.725, 0.52, "#2b2416", "#a8833f", 5.0)
    colour, cover = paint(width, height, barn_shapes)
    texture = 0.8 + 0.4 * fractal(rng, x * 60, y * 200, 4)
    picture = lay(picture, colour * texture[..., None], cover)
    windows = smooth(0.75, 0.95, colour[..., 0]) * smooth(0.6, 0.45, colour[..., 2]) * cover
    halo = Image.fromarray((windows * 255).astype("uint8")).filter(ImageFilter.GaussianBlur(14))
    picture = picture + np.asarray(halo, dtype=float)[..., None] / 255 * rgb("#ffb24d") * 0.9
    picture = lay(picture, *word(width, height, "farm", 84, (70, 150), "#ffe9cf", 0.85))
    develop(rng, picture, x, y, HERE / "barn.jpg", 84)


if __name__ == "__main__":
    harvest()
    barn()

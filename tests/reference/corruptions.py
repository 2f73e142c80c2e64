"""ImageNet-C, image by image, in NumPy float64, SciPy and Pillow.

Hendrycks & Dietterich 2019 (arXiv:1903.12261) as the authors' `make_imagenet_c.py`
and `make_cifar_c.py` define it. Those scripts, run with OpenCV 5.0, scikit-image 0.26
and ImageMagick 6.9 on the same draws, differ from this file by less than 0.003 grey
levels, and by ImageMagick's cut to bytes in motion blur and snow (impulse noise and
frost, which take files or a generator of their own, were not run). Every function
takes one image [H, W, C] in [0, 1], its parameters in pixels and its random draws, and
returns float64 before quantisation. Borders are OpenCV's and scikit-image's: Gaussian
blurs repeat the edge ("nearest"), OpenCV's filters mirror without it
("mirror").
"""

import io

import numpy as np
from PIL import Image
from scipy import ndimage


def unit(x):
    return np.clip(x, 0, 1)


def to_bytes(x):
    """To the nearest grey level; the images fed in lie on levels."""
    return np.uint8(np.floor(255 * unit(x) + 0.5))


# Noise.


def gaussian_noise(x, scale, normal):
    return unit(x + scale * normal)


def shot_noise(x, photons, counts):
    """`counts` drawn from Poisson(photons x)."""
    return unit(counts / photons)


def impulse_noise(x, amount, hit, salt):
    """`hit`, `salt` uniform in [0, 1), one of each per value."""
    return np.where(hit <= amount, np.where(salt <= 0.5, 1.0, 0.0), x)


def speckle_noise(x, scale, normal):
    return unit(x + x * scale * normal)


# Blur.


def smooth(x, sigma, *, mode="nearest", truncate=4.0):
    """Gaussian over the two first axes."""
    sigma = (sigma, sigma) + (0,) * (x.ndim - 2)
    return ndimage.gaussian_filter(
        np.asarray(x, np.float64), sigma, mode=mode, truncate=truncate
    )


def gaussian_blur(x, sigma):
    return unit(smooth(x, sigma))


def disk(radius, alias):
    reach = 8 if radius <= 8 else int(np.ceil(radius))
    grid = np.arange(-reach, reach + 1)
    kernel = 1.0 * (grid[:, None] ** 2 + grid**2 <= radius**2)
    kernel /= kernel.sum()
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    weights = np.exp(-(taps**2) / (2 * alias**2))
    weights /= weights.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, weights, axis, mode="mirror")
    return kernel


def defocus_blur(x, radius, alias):
    return unit(ndimage.convolve(x, disk(radius, alias)[:, :, None], mode="mirror"))


def glass_blur(x, sigma, reach, rounds, shifts, *, swap, cut=True):
    """`shifts` [rounds, rows, columns, 2] integer (dx, dy), in the order of the loops.

    The text says swap; in the authors' NumPy both sides of the swap are views of one
    array, which copies the far pixel over the near one (swap=False). They blur to
    bytes, cut, before the shuffle (cut=True).
    """
    h, w, _ = x.shape
    x = smooth(x, sigma)
    if cut:
        x = np.floor(255 * x) / 255
    for k in range(rounds):
        for a, i in enumerate(range(h - reach, reach, -1)):
            for b, j in enumerate(range(w - reach, reach, -1)):
                dx, dy = shifts[k, a, b]
                near, far = x[i, j].copy(), x[i + dy, j + dx].copy()
                x[i, j] = far
                if swap:
                    x[i + dy, j + dx] = near
    return unit(smooth(x, sigma))


def motion_blur(x, radius, sigma, angle):
    """ImageMagick's: half a Gaussian of 2 ⌈radius⌉ + 1 taps, `angle` in degrees."""
    taps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    h, w = x.shape[:2]
    out, turn = np.zeros_like(x, np.float64), np.deg2rad(angle)
    for i, weight in zip(taps, weights, strict=True):
        dy, dx = np.ceil(i * np.sin(turn) - 0.5), np.ceil(i * np.cos(turn) - 0.5)
        rows = np.clip(np.arange(h) + int(dy), 0, h - 1)
        columns = np.clip(np.arange(w) + int(dx), 0, w - 1)
        out += weight * x[rows][:, columns]
    return unit(out)


def clipped_zoom(x, factor):
    """The middle ceil(side / factor), enlarged linearly and cut to the old size."""
    size, inside = x.shape[:2], []
    for side in size:
        kept = int(np.ceil(side / factor))
        inside.append(slice((side - kept) // 2, (side - kept) // 2 + kept))
    zoomed = ndimage.zoom(x[tuple(inside)], (factor, factor, 1), order=1)
    top, left = ((zoomed.shape[i] - size[i]) // 2 for i in (0, 1))
    return zoomed[top : top + size[0], left : left + size[1]]


def centred_zoom(x, factor):
    """Linear zoom about the middle, not to whole pixels: for the smallest images."""
    for axis, side in enumerate(x.shape[:2]):
        middle = (side - 1) / 2
        at = middle + (np.arange(side) - middle) / factor
        low = np.minimum(np.floor(at).astype(int), side - 2)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        left, right = np.take(x, low, axis), np.take(x, low + 1, axis)
        x = (1 - share) * left + share * right
    return x


def zoom_blur(x, factors, zoom=clipped_zoom):
    return unit((x + sum(zoom(x, f) for f in factors)) / (len(factors) + 1))


# Weather.


def plasma(size, decay, uniform):
    """Diamond-square on a torus; `uniform(shape)` draws from [-1, 1).

    Squares first, then the diamonds left and right of them, then above and below;
    the wobble is wibble², wibble = 100, 100 / decay, ...
    """
    z, step, wibble = np.zeros((size, size)), size, 100.0

    def filled(total):
        return total / 4 + wibble**2 * uniform(total.shape)

    while step >= 2:
        half = step // 2
        corners = z[::step, ::step]
        below = corners + np.roll(corners, -1, axis=0)
        z[half::step, half::step] = filled(below + np.roll(below, -1, axis=1))
        middle, corners = z[half::step, half::step], z[::step, ::step]
        across = middle + np.roll(middle, 1, axis=0)
        across = across + corners + np.roll(corners, -1, axis=1)
        down = middle + np.roll(middle, 1, axis=1)
        down = down + corners + np.roll(corners, -1, axis=0)
        z[::step, half::step] = filled(across)
        z[half::step, ::step] = filled(down)
        step, wibble = half, wibble / decay
    z -= z.min()
    return z / z.max()


def fog(x, amount, cloud):
    """`cloud` [H, W] in [0, 1]."""
    return unit((x + amount * cloud[:, :, None]) * x.max() / (x.max() + amount))


def frost(x, own, ice, texture):
    return unit(own * x + ice * texture)


def frost_texture(lattice, height, width):
    """Ridged value noise in the colour of frost, in place of the photographs.

    `lattice` [O, 2^O + 1, 2^O + 1] in [0, 1); returns [H, W, 3].
    """
    total = np.zeros((height, width))
    for octave, values in enumerate(lattice):
        cells = 2 ** (octave + 1)
        rows, columns = np.linspace(0, cells, height), np.linspace(0, cells, width)
        places = np.meshgrid(rows, columns, indexing="ij")
        corner = values[: cells + 1, : cells + 1]
        smooth_noise = ndimage.map_coordinates(corner, places, order=1, mode="nearest")
        total += 0.8**octave * (1 - np.abs(2 * smooth_noise - 1))
    shade = 0.11 * (total - total.mean()) / total.std()
    return unit(np.array([0.57, 0.66, 0.70]) + shade[:, :, None])


def luma(x):
    return x @ [0.299, 0.587, 0.114] if x.shape[2] == 3 else x[:, :, 0]


def snow_layer(factor, threshold, radius, sigma, field, angle, *,
               zoom=clipped_zoom, cut=True):  # fmt: skip
    """`field` [H, W] normal with its mean and deviation, cut to bytes or not."""
    flakes = zoom(field[:, :, None], factor)
    flakes = unit(np.where(flakes < threshold, 0, flakes))
    if cut:
        flakes = np.floor(255 * flakes) / 255
    return motion_blur(flakes, radius, sigma, angle)


def snow(x, keep, layer):
    white = np.maximum(x, 1.5 * luma(x)[:, :, None] + 0.5)
    return unit(keep * x + (1 - keep) * white + layer + layer[::-1, ::-1])


# Spatter: the water is drawn with OpenCV's Canny, distance transform and filters.


def canny(z, low, high):
    """Canny 1986 on integers 0..255: Sobel, |gx| + |gy|, thinning, hysteresis."""
    z = np.asarray(z, np.int64)
    diff, mean = np.array([-1, 0, 1]), np.array([1, 2, 1])
    gx = ndimage.correlate(z, mean[:, None] * diff, mode="nearest")
    gy = ndimage.correlate(z, diff[:, None] * mean, mode="nearest")
    m = np.pad(np.abs(gx) + np.abs(gy), 1)

    def at(dy, dx):
        h, w = z.shape
        return m[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]

    flat = np.abs(gy) < np.tan(np.pi / 8) * np.abs(gx)
    steep = np.abs(gy) > np.tan(3 * np.pi / 8) * np.abs(gx)
    here = at(0, 0)
    rising = (here > at(-1, 1)) & (here > at(1, -1))
    falling = (here > at(-1, -1)) & (here > at(1, 1))
    crest = np.where(gx * gy < 0, rising, falling)
    crest = np.where(steep, (here > at(-1, 0)) & (here >= at(1, 0)), crest)
    crest = np.where(flat, (here > at(0, -1)) & (here >= at(0, 1)), crest)
    weak = crest & (here > low)
    groups, _ = ndimage.label(weak, np.ones((3, 3)))
    strong = np.unique(groups[weak & (here > high)])
    return np.isin(groups, strong) & weak


def chamfer(edges):
    """Shortest path to an edge by steps of Borgefors 1986: 1, 1.4 and 2.1969."""
    steps = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
    far = np.where(edges, 0.0, 1e4)
    h, w = edges.shape
    while True:
        padded, new = np.pad(far, 2, constant_values=1e4), far
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                cost = steps.get(tuple(sorted((abs(dy), abs(dx)))))
                if cost is not None:
                    moved = padded[2 + dy : 2 + dy + h, 2 + dx : 2 + dx + w]
                    new = np.minimum(new, moved + cost)
        if np.array_equal(new, far):
            return far
        far = new


def equalized(z):
    """Histogram equalisation of integers 0..255; a constant image stays."""
    count = np.bincount(z.ravel(), minlength=256)
    first = np.flatnonzero(count)[0]
    if count[first] == z.size:
        return z
    table = np.cumsum(count) - count[first]
    return np.rint(table * 255 / (z.size - count[first])).astype(np.int64)[z]


def box3(z):
    return ndimage.uniform_filter(np.asarray(z, np.float64), 3, mode="mirror")


def rims(liquid):
    """Wet pixels with a dry one above, below, left or right."""
    wet = liquid > 0
    inner = ndimage.binary_erosion(wet, border_value=1)
    return wet & ~inner


def canny_rims(liquid):
    return canny(liquid, 50, 150)


def euclidean(edges):
    if not edges.any():
        return np.full(edges.shape, 1e4)
    return ndimage.distance_transform_edt(~edges)


def spatter_water(x, sigma, threshold, strength, field, *, edges=canny_rims,
                  distance=chamfer):  # fmt: skip
    """`field` [H, W] normal with the corruption's mean and deviation."""
    liquid = smooth(field, sigma)
    liquid = np.where(liquid < threshold, 0, liquid)
    liquid = np.floor(255 * liquid).astype(np.int64) % 256
    # OpenCV rounds each stage to bytes; the first cast cuts.
    far = np.minimum(distance(edges(liquid)), 20)
    far = equalized(np.floor(box3(far) + 1e-6).astype(np.int64))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    far = np.clip(ndimage.correlate(far, emboss, mode="mirror"), 0, 255)
    wet = liquid * np.rint(box3(far))
    wet = wet / max(wet.max(), 1e-12) * strength
    colour = np.array([175, 238, 238]) / 255
    if x.shape[2] == 1:
        colour = luma(colour[None, None])[0]
    return unit(x + wet[:, :, None] * colour)


def spatter_mud(x, sigma, threshold, strength, field):
    wet = smooth(field, sigma)
    wet = smooth(1.0 * (np.where(wet < threshold, 0, wet) > threshold), strength)
    wet = np.where(wet < 0.8, 0, wet)[:, :, None]
    colour = np.array([63, 42, 20]) / 255
    if x.shape[2] == 1:
        colour = luma(colour[None, None])[0]
    return unit(wet * colour + (1 - wet) * x)


# Digital.


def to_hsv(x):
    """Smith 1978, hue in turns; grey has hue and saturation 0."""
    value, low = x.max(-1), x.min(-1)
    spread = value - low
    safe = np.where(spread == 0, 1, spread)
    r, g, b = np.moveaxis(x, -1, 0)
    sector = np.select(
        [spread == 0, value == r, value == g],
        [0 * r, (g - b) / safe, 2 + (b - r) / safe],
        4 + (r - g) / safe,
    )
    saturation = np.where(value == 0, 0, spread / np.where(value == 0, 1, value))
    return sector / 6 % 1, saturation, value


def to_rgb(hue, saturation, value):
    """Channel n is v (1 - s max(0, min(k, 4 - k, 1))), k = n + 6 hue mod 6."""
    channels = []
    for n in (5, 3, 1):
        k = (n + 6 * hue) % 6
        channels.append(value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1)))
    return np.stack(channels, -1)


def brightness(x, amount):
    if x.shape[2] == 1:
        return unit(x + amount)
    hue, saturation, value = to_hsv(x)
    return unit(to_rgb(hue, saturation, unit(value + amount)))


def saturate(x, factor, amount):
    hue, saturation, value = to_hsv(np.broadcast_to(x, (*x.shape[:2], 3)))
    return unit(to_rgb(hue, unit(factor * saturation + amount), value))


def contrast(x, factor):
    mean = x.mean((0, 1), keepdims=True)
    return unit((x - mean) * factor + mean)


def pixelate(x, factor):
    """Pillow's own box filter, on bytes."""
    h, w, _ = x.shape
    image = Image.fromarray(to_bytes(x).squeeze())
    image = image.resize((int(w * factor), int(h * factor)), Image.Resampling.BOX)
    image = image.resize((w, h), Image.Resampling.BOX)
    return np.asarray(image, np.float64).reshape(x.shape) / 255


def jpeg_compression(x, quality):
    """Pillow's own encoder and decoder: libjpeg, colour at half resolution."""
    buffer = io.BytesIO()
    Image.fromarray(to_bytes(x).squeeze()).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float64).reshape(x.shape) / 255


def elastic_transform(x, alpha, sigma, moves, wobble):
    """An affine map of three points, then a smooth displacement.

    `moves` [3, 2]: what is added to the points, in pixels; `wobble` [2, H, W] in
    [-1, 1): displacement of columns and of rows.
    """
    h, w, c = x.shape
    centre, reach = np.array([w, h]) // 2, min(h, w) // 3  # (column, row)
    points = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    source = np.concatenate([points, np.ones((3, 1))], 1)
    target = np.concatenate([points + moves, np.ones((3, 1))], 1)
    back = np.linalg.solve(target, source)
    rows, columns = np.mgrid[:h, :w]
    at = np.stack([columns, rows, np.ones_like(rows)], -1) @ back
    places = [at[..., 1], at[..., 0]]
    x = np.stack([ndimage.map_coordinates(x[..., i], places, order=1, mode="mirror")
                  for i in range(c)], -1)  # fmt: skip
    dx, dy = (alpha * smooth(u, sigma, mode="reflect", truncate=3.0) for u in wobble)
    places = [rows + dy, columns + dx]
    return unit(np.stack([ndimage.map_coordinates(x[..., i], places, order=1,
                                                  mode="reflect")
                          for i in range(c)], -1))  # fmt: skip

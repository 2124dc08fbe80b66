"""Pictures of every kind, each with the upright RGB pixels that it means.

The pixels are made first and the files of them, or, for lossy files, by turning and
mixing what Pillow decodes with numpy: nothing of serving is used.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

# EXIF's orientations (Exif 3.0, 4.6.5.1.6): from the pixels as stored to upright ones.
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}


@dataclass(frozen=True)
class Picture:
    """A file and what it shows."""

    content: bytes
    rgb: np.ndarray  # uint8 [height, width, 3]
    in_browsers: bool = True


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Something like one: large shapes, small ones, an edge and noise."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells, weight in ((3, 120), (12, 60), (60, 40)):
        noise = random.integers(0, 256, (cells, cells, 3), np.uint8)
        grown = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        total += weight * np.asarray(grown, np.float64) / 220
    total[height // 3 :, width // 4 : width // 2] *= 0.4
    return np.clip(total + random.normal(0, 6, total.shape), 0, 255).astype(np.uint8)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Straight alpha over white."""
    colours, alpha = rgba[..., :3].astype(float), rgba[..., 3:] / 255
    return np.round(colours * alpha + 255 * (1 - alpha)).astype(np.uint8)


def shrunk(rgb: np.ndarray, size: int) -> np.ndarray:
    """The rule of docs/clients.md, from its words: float64 [size, size, 3].

    A result is the mean of the pixels of the whole picture around its place in the middle
    square, weighted by a triangle that ends one result away (one pixel in small ones).
    """
    height, width = rgb.shape[:2]
    side = min(height, width)
    scale = side / size
    reach = max(scale, 1)

    def weights(pixels: int) -> np.ndarray:
        places = (pixels - side) / 2 + (np.arange(size) + 0.5) * scale
        away = np.abs(np.arange(pixels)[None] + 0.5 - places[:, None])
        found = np.maximum(0, 1 - away / reach)
        return found / found.sum(axis=1, keepdims=True)

    return np.einsum(
        "yi,xj,ijc->yxc", weights(height), weights(width), rgb.astype(float),
        optimize=True,
    )  # fmt: skip


def encoded(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """A file's content."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """EXIF data that says nothing else; `Image.Exif` writes it for `save`."""
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits, grey [h, w] or RGB [h, w, 3]; Pillow writes only grey ones."""
    height, width = values.shape[:2]
    header = struct.pack(
        ">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0
    )
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def swapped_profile() -> bytes:
    """An ICC profile by which red is blue: sRGB's with two names of tags exchanged."""
    found = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return (
        found.replace(b"rXYZ", b"????", 1)
        .replace(b"bXYZ", b"rXYZ", 1)
        .replace(b"????", b"bXYZ", 1)
    )


def decoded(content: bytes) -> np.ndarray:
    """What Pillow finds in a lossy file, as it is stored."""
    return np.asarray(Image.open(io.BytesIO(content)))


def examples() -> dict[str, Picture]:
    """Pictures by what is special about them."""
    photo = photograph(301, 450)
    height, width = photo.shape[:2]
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    found: dict[str, Picture] = {"png": Picture(encoded(photo, "PNG"), photo)}

    for orientation, turn in UPRIGHT.items():
        stored = photograph(200 + orientation, 320, seed=orientation)
        for kind, options in (("JPEG", {"quality": 90}), ("PNG", {})):
            content = encoded(stored, kind, exif=exif(orientation), **options)
            upright = turn(decoded(content))
            found[f"{kind.lower()} turned {orientation}"] = Picture(content, upright)
        content = encoded(stored, "TIFF", exif=exif(orientation))
        found[f"tiff turned {orientation}"] = Picture(content, turn(stored), False)
    webp = encoded(photo, "WEBP", lossless=True, exif=exif(6))
    # Chromium shows it as it is stored.
    found["webp turned 6"] = Picture(webp, UPRIGHT[6](photo), in_browsers=False)

    content, end = encoded(photo, "PNG"), chunk(b"IEND", b"")
    late = content.removesuffix(end) + chunk(b"eXIf", exif(6)[6:]) + end
    found["turned after its pixels"] = Picture(late, UPRIGHT[6](photo), False)
    two = [Image.fromarray(photo), Image.fromarray(photo[::-1])]
    content = encoded(
        two[0], "MPO", save_all=True, append_images=two[1:], exif=exif(8)
    )  # as telephones write them
    found["two jpegs in one"] = Picture(content, UPRIGHT[8](decoded(content)))

    alpha = np.linspace(0, 255, width).astype(np.uint8)[None].repeat(height, axis=0)
    rgba = np.dstack([photo, alpha])
    found["alpha"] = Picture(encoded(rgba, "PNG"), on_white(rgba))
    webp = encoded(rgba, "WEBP", lossless=True, exact=True)
    found["webp alpha"] = Picture(webp, on_white(rgba))
    la = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))
    grey_alpha = on_white(np.dstack([grey, grey, grey, alpha]))
    found["grey with alpha"] = Picture(encoded(la, "PNG"), grey_alpha)

    palette = Image.fromarray(photo).quantize(64)
    colours = np.array(palette.getpalette()).reshape(-1, 3)[np.asarray(palette)]
    found["palette"] = Picture(encoded(palette, "PNG"), colours.astype(np.uint8))
    holes = np.where((np.asarray(palette) == 7)[..., None], 255, colours)
    found["palette with a transparent colour"] = Picture(
        encoded(palette, "PNG", transparency=7), holes.astype(np.uint8)
    )
    key = tuple(int(value) for value in photo[150, 200])
    found["transparent by key"] = Picture(
        encoded(photo, "PNG", transparency=key),
        np.where((photo == key).all(axis=2, keepdims=True), 255, photo).astype(
            np.uint8
        ),
    )

    content = encoded(grey, "JPEG", quality=90)
    found["grey jpeg"] = Picture(content, np.dstack([decoded(content)] * 3))
    black_white = Image.fromarray(grey).convert("1")
    found["one bit"] = Picture(
        encoded(black_white, "PNG"),
        np.dstack([np.asarray(black_white).astype(np.uint8) * 255] * 3),
    )
    content = encoded(Image.fromarray(photo).convert("CMYK"), "JPEG", quality=90)
    ink = 255 - decoded(content).astype(float)
    found["cmyk jpeg"] = Picture(
        content, np.round(ink[..., :3] * ink[..., 3:] / 255).astype(np.uint8)
    )
    noise = np.random.default_rng(1).integers(0, 256, photo.shape)
    deep = photo.astype(np.uint16) * 256 + noise.astype(np.uint16)
    found["16 bits"] = Picture(png_16(deep), photo)
    found["16 bits grey"] = Picture(
        png_16(deep[..., 0]), np.dstack([photo[..., 0]] * 3)
    )

    for order in "<>":
        values = Image.fromarray(deep[..., 0].astype(f"{order}u2"))
        grey_16 = np.dstack([photo[..., 0]] * 3)
        found[f"16 bits tiff {order}"] = Picture(
            encoded(values, "TIFF"), grey_16, in_browsers=False
        )

    for name, shape in (
        ("very wide", (40, 2000)),
        ("very high", (1500, 17)),
        ("small", (13, 20)),
        ("one pixel", (1, 1)),
        ("a row", (1, 500)),
        ("of 32 x 33", (33, 32)),
        ("large", (1100, 1300)),
    ):
        image = photograph(*shape, seed=len(name))
        found[name] = Picture(encoded(image, "PNG", compress_level=1), image)

    frames = [Image.fromarray(photo).quantize(128), palette.rotate(180)]
    first = np.array(frames[0].getpalette()).reshape(-1, 3)[np.asarray(frames[0])]
    content = encoded(
        frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100
    )
    found["animated gif"] = Picture(content, first.astype(np.uint8))
    content = encoded(
        palette, "GIF", save_all=True, append_images=[palette.rotate(180)],
        transparency=7,
    )  # fmt: skip
    found["animated gif with a transparent colour"] = Picture(
        content, holes.astype(np.uint8)
    )
    content = encoded(
        Image.fromarray(photo), "WEBP", save_all=True, lossless=True,
        append_images=[Image.fromarray(np.flipud(photo))],
    )  # fmt: skip
    found["animated webp"] = Picture(content, photo)

    found["bmp"] = Picture(encoded(photo, "BMP"), photo)
    found["tiff"] = Picture(encoded(photo, "TIFF"), photo, in_browsers=False)
    found["colour profile"] = Picture(
        encoded(photo, "PNG", icc_profile=swapped_profile()), photo
    )
    return found

"""What a browser makes of the page on screens of all sizes: nothing is cut unseen."""

import html
import itertools
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.report import render
from pipeline.report.looks import LOOKS
from tests.pipeline.report import forms

WIDTHS = (320, 400, 768, 1280)

# Each page in a frame of each width; one line of what is wrong each. An element is at fault
# if it reaches beyond the screen, or its content beyond itself, unless it stands in a
# container that scrolls and says so.
HARNESS = """<!doctype html><meta charset="utf-8"><body><script>
const pages = %s, widths = %s;
const frames = [];
for (const [name, page] of Object.entries(pages)) for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = page;
  document.body.append(frame);
  frames.push({ name, width, frame });
}
const says = (scroller) => {
  const style = getComputedStyle(scroller);
  return /scroll( |%%20)for( |%%20)more/.test(style.backgroundImage) &&
    /local.*scroll/.test(style.backgroundAttachment) && scroller.tabIndex === 0;
};
const faults = [], scrolling = {};
onload = () => {
  for (const { name, width, frame } of frames) {
    const where = `${name} at ${width}`;
    const page = frame.contentDocument;
    const root = page.documentElement;
    if (root.clientWidth !== width) faults.push(`${where}: is ${root.clientWidth} wide`);
    if (root.scrollWidth > width) faults.push(`${where}: the page scrolls sideways`);
    for (const details of page.querySelectorAll("details")) details.open = true;
    for (const element of page.body.querySelectorAll("*")) {
      const box = element.getBoundingClientRect();
      if (!box.width) continue;
      const told = `${where}: ${element.tagName} ${element.textContent.trim().slice(0, 40)}`;
      const drawing = element.parentElement.closest("svg");
      if (drawing) {
        const frame = drawing.getBoundingClientRect();
        if (element.tagName === "text" &&
            (box.left < frame.left - 4 || box.right > frame.right + 4))
          faults.push(`${told} is outside its figure`);
        continue;
      }
      const scroller = element.parentElement.closest(".scroll");
      if (scroller) continue;
      if (box.left < -0.5 || box.right > width + 0.5) faults.push(`${told} is cut`);
      if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth) {
        if (!element.matches(".scroll")) faults.push(`${told} overflows`);
        else if (!says(element)) faults.push(`${told} scrolls without a word`);
        else scrolling[where] = true;
      }
    }
  }
  const found = document.createElement("pre");
  found.textContent = JSON.stringify({ measured: frames.length, faults, scrolling });
  document.body.replaceChildren(found);
};
</script>"""


@pytest.fixture(scope="module")
def pages():
    return {name: render.html(report) for name, report in forms.all_forms().items()}


needs_browser = pytest.mark.skipif(
    not shutil.which("chromium"), reason="needs the browser chromium"
)


def chromium(folder: Path, *options: str) -> str:
    """What the browser prints."""
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", f"--user-data-dir={folder / 'profile'}", *options,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    return done.stdout


@needs_browser
def test_nothing_is_cut_without_a_hint(pages, tmp_path):
    harness = tmp_path / "harness.html"
    texts = json.dumps(pages).replace("<", "\\u003c")
    harness.write_text(HARNESS % (texts, json.dumps(WIDTHS)))
    printed = chromium(
        tmp_path, "--window-size=1400,1000", "--dump-dom", f"file://{harness}"
    )
    (told,) = re.findall("<pre>(.*)</pre>", printed, re.DOTALL)
    found = json.loads(html.unescape(told))
    assert found["measured"] == len(pages) * len(WIDTHS)
    assert not found["faults"], "\n".join(found["faults"])
    # The check has seen something: tables of five columns do not fit a telephone.
    assert "in service stays at 320" in found["scrolling"]
    assert not any(where.endswith("1280") for where in found["scrolling"])
    assert not any(where.endswith("400") for where in found["scrolling"])


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_colours_follow_the_system(pages, tmp_path, dark):
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(pages["baseline wins"])
    chromium(
        tmp_path,
        f"--blink-settings=preferredColorScheme={int(not dark)}",
        "--window-size=900,2600",
        f"--screenshot={picture}",
        f"file://{page}",
    )
    with Image.open(picture) as image:
        seen = {c for _, c in image.convert("RGB").getcolors(1 << 24) or ()}
    light, other = schemes(pages["baseline wins"])
    for name in ("paper", "tint", "good", "baseline", "candidate"):
        here, there = (other, light) if dark else (light, other)
        assert tuple(bytes.fromhex(here[name][1:])) in seen
        assert tuple(bytes.fromhex(there[name][1:])) not in seen


def schemes(page: str) -> list[dict[str, str]]:
    """The page's colours, light and dark: name -> "#rrggbb"."""
    blocks = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in blocks]


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """Contrast ratio (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_in_both_schemes(pages):
    """WCAG 2.2 AA: 4.5 for text (1.4.3), 3 for what carries meaning (1.4.11)."""
    light, dark = schemes(pages["plain numbers"])
    assert light.keys() == dark.keys()
    for scheme in (light, {**light, **dark}):
        for background in ("paper", "tint", "warn"):
            assert contrast(scheme["ink"], scheme[background]) >= 4.5
        for text in ("soft", "good"):
            assert contrast(scheme[text], scheme["paper"]) >= 4.5
        assert contrast(scheme["soft"], scheme["tint"]) >= 4.5
        for mark in (*LOOKS, "good", "bad", "stays"):
            assert contrast(scheme[mark], scheme["paper"]) >= 3
        # Numbers on the deepest colour of the confusion matrix, three quarters opaque.
        cell = "#" + "".join(
            f"{round(0.75 * int(a, 16) + 0.25 * int(b, 16)):02x}"
            for a, b in zip(
                re.findall("..", "0072b2"),
                re.findall("..", scheme["paper"][1:]),
                strict=True,
            )
        )
        assert contrast(scheme["ink"], cell) >= 4.5


# Machado, Oliveira and Fernandes 2009 (10.1109/TVCG.2009.113), severity 1: how linear RGB
# looks to eyes without one kind of cones.
EYES = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
# Ottosson 2020, https://bottosson.github.io/posts/oklab: linear RGB -> cones -> Oklab.
CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def test_any_two_models_are_told_apart_by_eyes_of_all_kinds(pages):
    """By colour: 0.02 in Oklab can just be told apart; and by line and marker alone."""
    light, dark = schemes(pages["plain numbers"])
    for scheme in (light, dark):
        for eye in EYES.values():
            seen = {name: oklab(scheme[name], eye) for name in LOOKS}
            for one, other in itertools.combinations(seen, 2):
                apart = np.linalg.norm(seen[one] - seen[other])
                assert apart >= 0.06, (one, other, eye)
    for traits in (
        [look.dashes for look in LOOKS.values()],
        [look.marker for look in LOOKS.values()],
        [look.path for look in LOOKS.values()],
    ):
        assert len(set(traits)) == len(LOOKS) == 9


def oklab(colour: str, eye: tuple) -> np.ndarray:
    """Of "#rrggbb", as these eyes see it."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return OKLAB @ np.cbrt(CONES @ np.clip(eye @ linear, 0, 1))


def test_figures_follow_the_scheme_and_tell_networks_apart_without_colour(pages):
    page = pages["in service stays"]
    drawings = re.findall(r'<svg role="img".*?</svg>', page, re.DOTALL)
    assert len(drawings) == 9
    variables = set(re.findall(r"--([\w-]+):", page))
    for drawing in drawings:
        found = re.findall(r"(?:fill|stroke)(?::\s*|=\")([^;\"]*)", drawing)
        used = {re.sub(r"var\(--([\w-]+)\)", r"\1", c) for c in found} - {"none"}
        assert used
        assert used <= variables
    for curve in drawings[2:4]:
        lines = {
            role: {
                tuple(re.findall("stroke-dasharray: ([^;]+)", style))
                for style in re.findall(
                    rf'style="(fill: none;[^"]*stroke: var\(--{role}\)[^"]*)"', curve
                )
            }
            for role in ("baseline", "candidate")
        }
        assert lines["baseline"] == {()}
        assert lines["candidate"]
        assert () not in lines["candidate"]


def test_a_screen_reader_is_told_what_is_shown(pages):
    for page in pages.values():
        text = re.sub("<(meta|img|br|wbr)[^>]*>", "", page.split("<body>")[1])
        root = ElementTree.fromstring(f"<html><body>{text}".replace("&nbsp;", " "))
        assert len(re.findall("<img ", page)) == len(
            re.findall('<img [^>]*alt="[^"]', page)
        )
        headings = [e.tag for e in root.iter() if e.tag in ("h1", "h2", "h3")]
        assert headings == ["h1"] + ["h2"] * (len(headings) - 1)
        for table in root.iter("table"):
            assert table.findtext("caption") is not None
            assert all(head.get("scope") in ("row", "col") for head in table.iter("th"))
        for drawing in root.iter("{http://www.w3.org/2000/svg}svg"):
            assert drawing.get("role") == "img" and ": " in (
                drawing.get("aria-label") or ""
            )

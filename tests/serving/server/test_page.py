"""The page in a real browser, on a real server with a model whose answers are known."""

import asyncio
import base64
import contextlib
import hashlib
import html
import io
import json
import re
import shutil
import subprocess
import time
import urllib.request

import aiohttp
import numpy as np
import pytest
from PIL import Image

from serving.client import Classifier
from serving.server import page
from tests.serving import pictures

tf = pytest.importorskip("tensorflow")
from serving.server import application, flags  # noqa: E402

pytestmark = pytest.mark.tf

LONG = 60.0
COLOURS = ("red", "green", "blue")


class Colours(tf.Module):
    """Which colour an image has most of."""

    def _scores(self, images):
        amounts = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])
        return amounts / tf.reduce_sum(amounts, axis=1, keepdims=True)

    @tf.function(
        input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="images")]
    )
    def images(self, images):
        scores = self._scores(images)
        return {"probabilities": scores, "label": tf.argmax(scores, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        parsed = tf.io.parse_example(
            inputs, {"image": tf.io.FixedLenFeature([], tf.string)}
        )
        pixels = tf.io.decode_raw(parsed["image"], tf.uint8, fixed_length=3072)
        scores = self._scores(tf.reshape(pixels, [-1, 32, 32, 3]))
        names = tf.tile(tf.constant([COLOURS]), [tf.shape(scores)[0], 1])
        return {"classes": names, "scores": scores}


class Whole(Colours):
    """The same of files, which it decodes itself; with the names that clients need."""

    def _named(self, scores):
        label = tf.argmax(scores, axis=1)
        names = tf.gather(tf.constant(COLOURS), label)
        return {"probabilities": scores, "label": label, "class_name": names}

    def _of_files(self, files):
        def amounts(file):
            image = tf.io.decode_image(file, channels=3, expand_animations=False)
            return tf.reduce_mean(tf.cast(image, tf.float32), axis=[0, 1])

        found = tf.map_fn(amounts, files, fn_output_signature=tf.float32)
        return found / tf.reduce_sum(found, axis=1, keepdims=True)

    @tf.function(
        input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="images")]
    )
    def images(self, images):
        return self._named(self._scores(images))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded")])
    def encoded(self, encoded):
        return self._named(self._of_files(encoded))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        parsed = tf.io.parse_example(
            inputs, {"image": tf.io.FixedLenFeature([], tf.string)}
        )
        scores = self._of_files(parsed["image"])
        names = tf.tile(tf.constant([COLOURS]), [tf.shape(scores)[0], 1])
        return {"classes": names, "scores": scores}


def write(folder, *, with_classify, kind=Colours):
    module = kind()
    signatures = {"serving_default": module.images}
    if kind is Whole:  # as trainer.export does
        signatures |= dict.fromkeys(("encoded_images", "any_size"), module.encoded)
    if with_classify:
        signatures["classify"] = module.classify
    tf.saved_model.save(module, str(folder), signatures=signatures)
    if with_classify:  # as trainer.export does
        v1 = tf.compat.v1.saved_model
        updater = v1.signature_def_utils.MethodNameUpdater(str(folder))
        updater.replace_method_name(
            signature_key="classify",
            method_name=v1.signature_constants.CLASSIFY_METHOD_NAME,
            tags=["serve"],
        )
        updater.save()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Models on a server with the page; `<b>` in a folder's name hurts nobody."""
    base = tmp_path_factory.mktemp("models")
    write(base / "colours" / "3", with_classify=True)
    write(base / "plain" / "8", with_classify=False)
    write(base / "whole" / "1", with_classify=True, kind=Whole)
    write(base / "unnamed" / "1", with_classify=False, kind=Whole)
    configuration = base / "models.config"
    configuration.write_text(
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "{base / name}" '
            'model_platform: "tensorflow" }'
            for name in ("colours", "plain", "whole", "unnamed")
        )
        + "}"
    )
    arguments = [
        "--port=0", "--rest_api_port=-1", f"--model_config_file={configuration}",
    ]  # fmt: skip
    parsed, _ = flags.parse([*arguments, "--web_page"])
    running = application.start(parsed)
    yield running
    running.stop(1.0)


def get(url):
    with urllib.request.urlopen(url, timeout=LONG) as answer:
        return answer.headers, answer.read()


def test_page_is_off_by_default(server, tmp_path):
    write(tmp_path / "m" / "1", with_classify=False)
    parsed, _ = flags.parse(
        ["--port=0", "--rest_api_port=-1", f"--model_base_path={tmp_path / 'm'}"]
    )
    other = application.start(parsed)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(f"http://127.0.0.1:{other.rest.port}/")
        assert caught.value.code == 404
    finally:
        other.stop(1.0)


def test_policy_allows_this_pages_own_script_and_style_only(server):
    headers, body = get(f"http://127.0.0.1:{server.rest.port}/")
    policy = dict(
        part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    text = body.decode()
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert not re.findall(r"https?://", text)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,"}


def test_names_of_models_cannot_become_markup():
    names = ['a"><script>alert(1)</script>', "b&amp;'"]
    text = page.html(names).decode()
    assert text.count("<script") == 1
    (value,) = re.findall('data-models="([^"]*)"', text)
    assert json.loads(html.unescape(value)) == names


def contrast(one, other):
    """WCAG 2.2's contrast ratio of two colours, from their sRGB values."""

    def luminance(colour):
        digits = colour.removeprefix("#")
        if len(digits) == 3:
            digits = "".join(2 * digit for digit in digits)
        linear = [
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
            for value in (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
        ]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_colours_can_be_told_apart_in_light_and_dark():
    """WCAG 2.2: 1.4.3, text 4.5:1; 1.4.11, edges of controls, focus and bars 3:1."""
    blocks = re.findall(r":root \{(.*?)\}", page.html([]).decode(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--(\w+): (#\w+);", block))
        for ground in ("card", "page"):
            for text in ("ink", "soft", "bad"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
            for part in ("edge", "best"):
                assert contrast(colours[part], colours[ground]) >= 3, (part, ground)
        assert contrast(colours["bar"], colours["card"]) >= 3


def png(colour, size=(300, 200)):
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


class Browser:
    """Chromium, headless, by its DevTools protocol."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self.console = []

    async def call(self, method, **parameters):
        self._number += 1
        number = self._number
        await self._socket.send_json(
            {"id": number, "method": method, "params": parameters}
        )
        while True:
            message = await self._socket.receive_json(timeout=LONG)
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.console.append(message["params"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    async def value(self, expression):
        result = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True,
            returnByValue=True,
        )  # fmt: skip
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression):
        end = time.monotonic() + LONG
        while not await self.value(expression):
            assert time.monotonic() < end, f"{expression}: {self.console}"
            await asyncio.sleep(0.05)

    async def choose(self, model):
        """Of the models that the page offers."""
        await self.value(
            f"""{{
            at("model").value = "{model}";
            document.body.dataset.state = "changed";
            at("model").dispatchEvent(new Event("change"));
            }}"""
        )

    async def drop(self, data, name="a.png", kind="image/png"):
        """Drops a file on the page and waits for the answer."""
        await self.value(
            f"""{{
            const bytes = Uint8Array.from(atob("{base64.b64encode(data).decode()}"),
                (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "{name}", {{ type: "{kind}" }}));
            document.body.dataset.state = "dropped";
            document.getElementById("drop").dispatchEvent(new DragEvent("drop",
                {{ dataTransfer: transfer, bubbles: true, cancelable: true }}));
            }}"""
        )
        await self.until("['done', 'failed'].includes(document.body.dataset.state)")

    async def seen(self):
        """The network's picture on the page's canvas, uint8 [height, width, 3]."""
        found = json.loads(
            await self.value(
                """(() => {
                const { width, height } = at("small");
                const context = at("small").getContext("2d");
                const { data } = context.getImageData(0, 0, width, height);
                return JSON.stringify([height, width, [...data]]);
                })()"""
            )
        )
        return np.array(found[2], np.uint8).reshape(*found[:2], 4)[..., :3]

    async def shown(self):
        """What stands on the page: state, facts, [class, bar's width, share]."""
        return json.loads(
            await self.value(
                """JSON.stringify({
                state: document.body.dataset.state,
                message: document.getElementById("message").textContent,
                said: document.getElementById("said").textContent,
                best: document.getElementById("best").textContent,
                version: document.getElementById("version").textContent,
                latency: document.getElementById("latency").textContent,
                pictures: [...document.querySelectorAll("#original:not([hidden])")].length,
                hint: !document.getElementById("hint").hidden,
                seen: document.getElementById("small").getContext("2d")
                    .getImageData(16, 16, 1, 1).data[3] > 0,
                facts: !document.getElementById("facts").hidden,
                classes: [...document.querySelectorAll("#classes li")].map((line) => [
                    line.querySelector("span").textContent,
                    line.querySelector("i").hidden ? "" :
                        line.querySelector("i").style.width,
                    line.querySelector("data").textContent]),
                })"""
            )
        )


@contextlib.asynccontextmanager
async def browser(profile, url):
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
        "--window-size=1000,700", "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            port_file = profile / "DevToolsActivePort"
            end = time.monotonic() + LONG
            while not port_file.exists() or "\n" not in port_file.read_text():
                assert process.poll() is None and time.monotonic() < end
                await asyncio.sleep(0.05)
            port = port_file.read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    (target, *_) = [
                        t for t in await answer.json() if t["type"] == "page"
                    ]
                address = target["webSocketDebuggerUrl"]
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    opened = Browser(socket)
                    await opened.call("Log.enable")
                    await opened.call("Runtime.enable")
                    await opened.call("Page.enable")
                    await opened.call("Page.navigate", url=url)
                    await opened.until("document.body?.dataset.state === 'ready'")
                    yield opened
        finally:
            process.kill()  # it holds nothing worth an orderly end


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_a_picture_dropped_on_the_page_is_classified(server, tmp_path):
    url = f"http://127.0.0.1:{server.rest.port}/"

    async def visit():
        async with browser(tmp_path / "profile", url) as opened:
            await opened.drop(png((30, 50, 120)))
            named = await opened.shown()
            screenshot = await opened.call("Page.captureScreenshot", format="png")
            await opened.choose("plain")
            await opened.until("document.body.dataset.state === 'done'")
            unnamed = await opened.shown()
            await opened.drop(b"no picture", "a.txt", "text/plain")
            refused = await opened.shown()
            await opened.drop(png((200, 50, 0), (20, 500)))
            again = await opened.shown()
        return named, unnamed, refused, again, screenshot, opened.console

    named, unnamed, refused, again, screenshot, console = asyncio.run(visit())
    assert console == []  # no error, no violation of the policy
    assert (named["state"], named["best"], named["version"]) == ("done", "blue", "3")
    assert named["classes"] == [
        ["blue", "60%", "60.0 %"], ["green", "25%", "25.0 %"], ["red", "15%", "15.0 %"]
    ]  # fmt: skip
    assert 0 < float(named["latency"].removesuffix(" ms")) < 1000 * LONG
    assert unnamed["version"] == "8"
    assert [line[0] for line in unnamed["classes"]] == ["class 2", "class 1", "class 0"]
    assert refused["state"] == "failed"
    assert "no picture" in refused["message"]
    assert refused["classes"] == []
    shown = ("pictures", "hint", "seen", "facts")
    assert [named[part] for part in shown] == [1, False, True, True]
    assert [refused[part] for part in shown] == [0, True, False, False]
    assert (again["best"], again["classes"][0][2]) == ("class 0", "80.0 %")
    with Image.open(io.BytesIO(base64.b64decode(screenshot["data"]))) as image:
        picture = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for wanted in [(30, 50, 120), (31, 95, 219)]:  # the picture, the best class's bar
        assert (picture == wanted).all(axis=1).sum() > 500


# Answers of a server that has two signatures; those of its other paths by `answers`.
STUB = """{
    const images = { method_name: "tensorflow/serving/predict", inputs: { images: {
        dtype: "DT_UINT8", tensor_shape: { dim: [-1, 2, 2, 3].map((size) => ({ size })) } } } };
    const named = { method_name: "tensorflow/serving/classify", inputs: { inputs: {
        dtype: "DT_STRING", tensor_shape: {} } } };
    window.asked = [];
    window.fetch = async (path) => {
        const kind = /[a-z]+$/.exec(path)[0];
        window.asked.push(kind);
        if (kind === "metadata") return new Response(JSON.stringify({ metadata: {
            signature_def: { signature_def: { serving_default: images, named } } } }));
        const [status, body] = window.answers[kind];
        return new Response(body, { status });
    };
    }"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_answers_that_are_no_scores(server, tmp_path):
    url = f"http://127.0.0.1:{server.rest.port}/"

    async def visit():
        async with browser(tmp_path / "profile", url) as opened:

            async def drop(**answers):
                await opened.value(
                    f"window.asked = []; window.answers = {json.dumps(answers)}; 0"
                )
                await opened.drop(png((30, 50, 120)))
                shown = await opened.shown()
                return shown, json.loads(await opened.value("JSON.stringify(asked)"))

            await opened.value("window.realFetch = window.fetch; 0")
            await opened.value(STUB)
            plain = [
                await drop(classify=(status, body), predict=(status, body))
                for status, body in (
                    (500, '{"error": "{{function_node f}} no [[{{node g}}]]"}'),
                    (400, "<html>"),
                    (200, "{}"),
                    (200, "<html>"),
                )
            ]
            none = await drop(
                classify=(200, '{"results": [[["a", 0.9996], ["b", 4e-4]]]}')
            )
            special = await drop(
                classify=(
                    200,
                    r'{"results": [[["Infinity", 0.5], ["a \" NaN", 0.25],'
                    r' ["c", -Infinity], ["d", NaN]]]}',
                )
            )
            busy = [
                await drop(classify=(status, '{"error": "full"}'), predict=(200, "{}"))
                for status in (429, 503)
            ]
            without = [
                await drop(
                    classify=(status, '{"error": "none"}'),
                    predict=(200, '{"predictions": [[0.1, 0.9]]}'),
                )
                for status in (400, 404)
            ]
            await opened.value(
                "window.fetch = () => realFetch('http://127.0.0.1:9/'); 0"
            )
            gone = await drop()
            return plain, none, special, busy, without, gone

    plain, none, special, busy, without, gone = asyncio.run(visit())
    assert [(shown["message"], shown["said"]) for shown, _ in plain[:2]] == [
        ("The server failed on its side.", "{{function_node f}} no [[{{node g}}]]"),
        ("The model does not take this picture.", "<html>"),
    ]
    assert plain[2][0]["message"] == (
        "This page does not understand the server's answer."
    )
    assert plain[3][0]["message"] == "The server's answer cannot be read."
    # What is written as nothing has no bar; what is no number is not written as nothing.
    assert [line[1:] for line in none[0]["classes"]] == [
        ["99.96%", "100.0 %"], ["", "0.0 %"]
    ]  # fmt: skip
    assert [line[1:] for line in special[0]["classes"][2:]] == [
        ["", "not a number"]
    ] * 2
    assert [line[0] for line in special[0]["classes"]] == [
        "Infinity", "a \" NaN", "c", "d"
    ]  # fmt: skip
    for shown, asked in busy:
        assert (shown["state"], shown["said"]) == ("failed", "full")
        assert shown["message"].startswith("The server is busy")
        assert asked == ["metadata", "classify"]
    for shown, asked in without:
        assert (shown["state"], shown["best"]) == ("done", "class 1")
        assert asked == ["metadata", "classify", "predict"]
    assert gone[0]["state"] == "failed"
    assert gone[0]["message"] == "The server does not answer. Is it still running?"


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_the_same_file_can_be_chosen_again(server, tmp_path):
    url = f"http://127.0.0.1:{server.rest.port}/"
    path = tmp_path / "a.png"
    path.write_bytes(png((30, 50, 120)))

    async def visit():
        async with browser(tmp_path / "profile", url) as opened:
            found = await opened.call("Runtime.evaluate", expression="at('file')")
            await opened.call(
                "DOM.setFileInputFiles", files=[str(path)],
                objectId=found["result"]["objectId"],
            )  # fmt: skip
            await opened.until("document.body.dataset.state === 'done'")
            return await opened.value("at('file').value"), await opened.shown()

    value, shown = asyncio.run(visit())
    assert (value, shown["best"]) == ("", "blue")


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_the_page_without_eyes_and_mouse(server, tmp_path):
    """By the keyboard alone, and as the browser describes it to screen readers."""
    url = f"http://127.0.0.1:{server.rest.port}/"

    async def visit():
        async with browser(tmp_path / "profile", url) as opened:

            async def described():
                tree = await opened.call("Accessibility.getFullAXTree")
                return {
                    (node["role"]["value"], node["name"]["value"])
                    for node in tree["nodes"]
                    if "role" in node and "name" in node
                }

            async def press(key, code):
                for kind in ("keyDown", "keyUp"):
                    await opened.call(
                        "Input.dispatchKeyEvent", type=kind, key=key,
                        windowsVirtualKeyCode=code, text="\r" if key == "Enter" else "",
                    )  # fmt: skip

            before = await described()
            await press("Tab", 9)
            await press("Tab", 9)
            focused = await opened.value("document.activeElement.id")
            ring = await opened.value(
                "getComputedStyle(document.activeElement).outlineWidth"
            )
            await opened.value(
                "window.chosen = 0; at('file').click = () => chosen++; 0"
            )
            await press("Enter", 13)
            chosen = await opened.value("chosen")
            await opened.drop(png((30, 50, 120)))
            after = await described()
            live = await opened.value("at('message').getAttribute('role')")
            heard = await opened.value("at('message').textContent")
            return before, focused, ring, chosen, after, live, heard

    before, focused, ring, chosen, after, live, heard = asyncio.run(visit())
    assert {role for role, name in before if name} >= {"button", "combobox", "image"}
    assert ("image", "What the network sees: nothing yet") in before
    assert (focused, ring, chosen) == ("drop", "3px", 1)
    seen = "What the network sees: the middle square, 32 x 32 pixels."
    assert ("image", seen) in after
    assert ("button", "Your picture. Choose another one") in after
    assert (live, heard) == ("status", "blue, 60.0 %")


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_pictures_become_what_the_rule_says(server, tmp_path):
    """The rule of docs/clients.md: the page within 1 of 255 on average of its words."""
    url = f"http://127.0.0.1:{server.rest.port}/"
    chosen = {
        name: picture
        for name, picture in pictures.examples().items()
        if picture.in_browsers
    }

    async def visit():
        async with browser(tmp_path / "profile", url) as opened:
            found = {}
            for name, picture in chosen.items():
                await opened.drop(picture.content, name)
                found[name] = await opened.seen()
            return found

    found = asyncio.run(visit())
    away = {
        name: np.abs(found[name] - pictures.shrunk(picture.rgb, 32)).mean()
        for name, picture in chosen.items()
    }
    assert {name: mean for name, mean in away.items() if mean > 1} == {}


def cut(rgb, size):
    """What trainer/crops.py shows of a picture, by Pillow: the middle of 256/224."""
    height, width = rgb.shape[:2]
    shorter = round(size * 256 / 224)
    scaled = [
        round(length * shorter / min(width, height)) for length in (width, height)
    ]
    left, top = ((length - size) // 2 for length in scaled)
    picture = Image.fromarray(rgb).resize(scaled, Image.Resampling.BILINEAR)
    return np.asarray(picture.crop((left, top, left + size, top + size)), float)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_a_model_that_cuts_pictures_itself_gets_them_whole(server, tmp_path):
    """The page sends what the client sends, so that both get the same answer."""
    url = f"http://127.0.0.1:{server.rest.port}"
    chosen = {
        name: picture
        for name, picture in pictures.examples().items()
        if picture.in_browsers
    }
    broad = pictures.photograph(300, 6000)
    for kind, options in (("JPEG", {"quality": 90}), ("PNG", {})):
        content = pictures.encoded(broad, kind, **options)
        chosen[f"broad {kind}"] = pictures.Picture(content, pictures.decoded(content))

    async def visit():
        async with browser(tmp_path / "profile", url) as opened:
            await opened.value(
                """{
                window.sent = [];
                const ask = window.fetch;
                window.fetch = (path, asked) => {
                    if (asked) window.sent.push(asked.body);
                    return ask(path, asked);
                };
                0
                }"""
            )
            found = {}
            for model in ("whole", "unnamed"):
                await opened.choose(model)
                for name, picture in chosen.items():
                    await opened.value("window.sent.length = 0")
                    await opened.drop(picture.content, name)
                    sent = json.loads(await opened.value("JSON.stringify(sent)"))
                    shown, seen = await opened.shown(), await opened.seen()
                    found[model, name] = sent, shown, seen
            return found, opened.console

    found, console = asyncio.run(visit())
    assert console == []
    kept = 0
    for (model, name), (sent, shown, seen) in found.items():
        picture = chosen[name]
        (body,) = map(json.loads, sent)
        if model == "whole":
            (given,) = body["examples"]
            file = base64.b64decode(given["image"]["b64"])
        else:
            assert body["signature_name"] == "any_size"
            (given,) = body["instances"]
            file = base64.b64decode(given["encoded"]["b64"])
        if name.endswith((" turned 1", "jpeg", "JPEG")) and not name.startswith("cmyk"):
            assert file == picture.content, name
        with Image.open(io.BytesIO(file)) as opened:
            pixels = np.asarray(opened.convert("RGB"), float)
        assert np.abs(pixels - picture.rgb).mean() <= 1, name
        assert np.abs(seen - cut(picture.rgb, 32)).mean() <= 1, name
        with Classifier(url, model=model) as classifier:
            (answer,) = classifier.classify([picture.content])
        kept += file == picture.content
        names = COLOURS if model == "whole" else [f"class {n}" for n in range(3)]
        shares = {
            line[0]: float(line[2].removesuffix(" %")) for line in shown["classes"]
        }
        assert [shares[each] for each in names] == pytest.approx(
            100 * answer.probabilities, abs=0.3 if file != picture.content else 0.051
        ), name
    assert 2 * 12 < kept < len(found)

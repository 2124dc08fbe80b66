"""A SavedModel that tells dark, grey and light apart, and images for it."""

import io

NAMES = ("dark", "grey", "light")


def picture(value: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def save(path: str) -> None:
    """Writes the model; it answers 0.8 for the class of the mean of 4 x 4 pixels."""
    import tensorflow as tf

    names = [tf.TensorSpec([None], tf.string, name=n) for n in ("encoded", "examples")]

    class Brightness(tf.Module):
        def answer(self, pixels):
            mean = tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[1, 2, 3])
            label = tf.cast(mean / 86, tf.int64)
            probabilities = 0.1 + 0.7 * tf.one_hot(label, 3)
            found = tf.gather(tf.constant(NAMES), label)
            return {"probabilities": probabilities, "label": label, "class_name": found}

        @tf.function(input_signature=names[:1])
        def encoded(self, encoded):
            return self.answer(
                tf.map_fn(
                    lambda file: tf.ensure_shape(
                        tf.io.decode_image(file, channels=3, expand_animations=False),
                        [4, 4, 3],
                    ),
                    encoded,
                    fn_output_signature=tf.uint8,
                )
            )

        @tf.function(input_signature=names[1:])
        def examples(self, examples):
            raw = tf.io.parse_example(
                examples, {"image": tf.io.FixedLenFeature([], tf.string)}
            )
            pixels = tf.io.decode_raw(raw["image"], tf.uint8)
            return self.answer(tf.reshape(pixels, [-1, 4, 4, 3]))

    module = Brightness()
    signatures = {
        "encoded_images": module.encoded,
        "serialized_examples": module.examples,
    }
    tf.saved_model.save(module, path, signatures=signatures)

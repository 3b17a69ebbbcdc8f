"""A user's network of Keras layers, with dropout and batch normalization."""

import tensorflow as tf


class MyNet(tf.keras.Model):
  def __init__(self, num_classes, width=8, depth=1):
    super().__init__()
    layers = tf.keras.layers
    self.body = tf.keras.Sequential(
      [
        layers.Rescaling(1 / 255),
        layers.Conv2D(width, 5, strides=2, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.2),
        layers.Flatten(),
      ]
    )
    self.blocks = [layers.Dense(2 * width, "relu") for _ in range(depth)]
    self.dropout = layers.Dropout(0.3)
    self.head = layers.Dense(num_classes)

  def call(self, images, training=False):
    x = self.body(tf.cast(images, tf.float32), training=training)
    for block in self.blocks:
      x = block(x)
    return self.head(self.dropout(x, training=training))

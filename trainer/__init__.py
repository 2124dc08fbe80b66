"""Networks, input, training and export: what runs inside TFX Transform and Trainer."""

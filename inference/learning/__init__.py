"""Training and evaluation of models: data sets, augmentation, training, calibration, metrics and the model card."""
